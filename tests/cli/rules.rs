//! The rule book, composites of one's own, and which rule each operation got and why.

use crate::support::{Answer, Place, mnist, repository};

/// Compiles the example network under the composite `mine.toml` of these entries.
fn compiled_with(place: &Place, entries: &str, flags: &[&str]) -> Answer {
    let toml = format!("name = 'mine'\ndoc = ''\nextends = 'gamma'\n{entries}");
    std::fs::write(place.path("mine.toml"), toml).unwrap();
    place.compile(&mnist(), "m.graph", &[&["--rules", "mine.toml"], flags].concat())
}

#[test]
fn the_rule_book_is_shown_within_a_terminal() {
    let place = Place::new();
    let mut texts = vec![place.lrpc(&["rules"]).good().text(), place.lrpc(&["rules", "--composites"]).good().text()];
    assert!(texts[1].contains("epsilon-plus-flat"));
    for rule in lrpc_passes::rules::RULES {
        assert!(texts[0].contains(rule.name));
        let shown = place.lrpc(&["rules", rule.name]).good().text();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (heading, section) in rule.sections() {
            assert!(words(&shown).contains(&words(&format!("{heading} {section}"))), "{shown}");
        }
        assert!(rule.parameters.iter().all(|parameter| shown.contains(&format!("\n{}", parameter.name))), "{shown}");
        texts.push(shown);
    }
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let text = place.lrpc(&["rules", "epsilon-plus-flat"]).good().text();
    for words in ["epsilon-plus-flat 1  role=first class=linear", "epsilon 1", "ZPlus", "[[rule]]"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn the_rule_book_is_json_too() {
    let place = Place::new();
    let rules = place.lrpc(&["rules", "--format", "json"]).good().json();
    assert_eq!(rules.as_array().unwrap().len(), lrpc_passes::rules::RULES.len());
    let rule = place.lrpc(&["rules", "Epsilon", "--format", "json"]).good().json();
    assert_eq!((&rule["name"], &rule["parameters"][0]["default"]), (&"Epsilon".into(), &"1e-6".into()));
    assert!(rule["sections"]["Formula"].as_str().unwrap().contains("S(z)"), "{rule}");
    let composite = place.lrpc(&["rules", "gamma", "--format", "json"]).good().json();
    assert_eq!(composite["entries"][0]["selects"], "op=conv|conv_transpose class=linear");
    assert_eq!(composite["entries"][1]["of"], "epsilon");
}

#[test]
fn what_was_probably_meant_is_suggested() {
    let place = Place::new();
    place.lrpc(&["rules", "Zplus"]).status(2).says(&["no rule or composite `Zplus`", "did you mean `ZPlus`?", "Flat"]);
    place.lrpc(&["rules", "epsilon-plos"]).status(2).says(&["did you mean `epsilon-plus`?"]);
    for (flags, word) in [
        (["--rules", "epsilom"], "did you mean `epsilon`?"),
        (["--rules", "gamma(gama=1)"], "did you mean `gamma`?"),
        (["--target", "logit[:,1]"], "did you mean `logits`?"),
    ] {
        place.compile(&mnist(), "m.graph", &flags).status(2).says(&[word]);
    }
    for (entry, word) in [
        ("use = 'Epsilom'", "did you mean `Epsilon`?"),
        ("op = 'konv'\nuse = 'Flat'", "did you mean `conv`?"),
        ("role = 'frist'\nuse = 'Flat'", "did you mean `first`?"),
        ("use = 'Gamma'\nwith = { gama = 1.0 }", "did you mean `gamma`?"),
        ("use = 'Gamma'\nwith = { gamma = '$gama' }", "did you mean `gamma`?"),
    ] {
        let answer = compiled_with(&place, &format!("[[rule]]\n{entry}\n"), &[]);
        answer.status(2).says(&["mine.toml: entry 1 of composite `mine`", word]);
    }
    assert_eq!(place.files(), ["mine.toml"]);
}

#[test]
fn files_take_parameters() {
    let place = Place::new();
    std::fs::write(place.path("mine.toml"), "name = 'mine'\ndoc = ''\nextends = 'gamma'\n").unwrap();
    let flags = ["--rules", "mine.toml(gamma=0.5)", "--format", "json"];
    let report = place.compile(&mnist(), "m.graph", &flags).good().json();
    assert_eq!(report["composites"][0], "mine(bias=include, eps=1e-6, gamma=0.5)");
    place.compile(&mnist(), "mine.toml", &["--rules", "mine.toml(gamma=0.5)"]).status(2).says(&["overwrite"]);
    let answer = place.compile(&mnist(), "m.graph", &["--rules", "mine.toml(gama=0.5)"]);
    answer.status(2).says(&["mine.toml", "no parameter `gama`", "did you mean `gamma`?"]);
}

#[test]
fn selectors_that_match_nothing_warn_and_name_what_is_near() {
    let place = Place::new();
    for (entry, words) in [
        ("name = 'conv3_*'", "the nearest names are conv1_1"),
        ("op = 'conv_transpose'", "the operations are conv, dot, "),
        ("role = 'gate'", "there are first, head"),
        ("op = 'conv'\nrole = 'head'", "without `role=head` it would match conv1_1, conv1_2, conv2_1"),
    ] {
        let entries = format!("[[rule]]\n{entry}\nuse = 'Flat'\n");
        let warning = "warning: entry 1 of `mine` (";
        let answer = compiled_with(&place, &entries, &[]).good();
        let answer = answer.says(&[warning, "matches no operation of this graph", words]);
        assert_eq!(answer.stderr.matches("warning: ").count(), 1, "{}", answer.stderr);
        let report = compiled_with(&place, &entries, &["--format", "json"]).good().json();
        assert!(report["warnings"][0]["help"].as_str().unwrap().contains(words), "{report}");
        let model = mnist();
        let coverage = ["coverage", model.to_str().unwrap(), "--rules", "mine.toml"];
        place.lrpc(&coverage).good().says(&[warning, words]);
        let json = place.lrpc(&[&coverage[..], &["--format", "json"]].concat()).good().json();
        assert_eq!(json[0]["warnings"].as_array().unwrap().len(), 1);
    }
    let behind = "[[rule]]\nclass = 'linear'\nuse = 'Flat'\n[[rule]]\nop = 'dot'\nuse = 'Epsilon'\n";
    compiled_with(&place, behind, &[])
        .good()
        .says(&["entry 2 of `mine` (op=dot → Epsilon) is never used", "entry 1 ("]);
    let silent = compiled_with(&place, "[[rule]]\nweight = false\nclass = 'linear'\nuse = 'Flat'\n", &[]).good();
    silent.says(&["without `weight=false` it would match"]);
    let fits = "[[rule]]\nweight = true\nname = ['conv?_1', 'fc*']\nactive = 1\nuse = 'WSquare'\n";
    let silent = compiled_with(&place, fits, &[]).good();
    assert!(!silent.stderr.contains("warning"), "{}", silent.stderr);
    // Entries that come with the program are nobody's mistake.
    let silent = place.compile(&repository("tests/data/models/unet/model.onnx"), "u.graph", &["--rules", "attnlrp"]);
    assert!(!silent.good().stderr.contains("warning"));
}

#[test]
fn a_file_is_shown_with_what_it_inherits_and_warns_once() {
    let place = Place::new();
    let entries = "[[rule]]\nname = 'conv3_*'\nuse = 'Flat'\n";
    let answer = compiled_with(&place, entries, &["--rules", "mine.toml"]).good();
    assert_eq!(answer.stderr.matches("warning: ").count(), 1, "{}", answer.stderr);
    let text = place.lrpc(&["rules", "mine.toml"]).good().text();
    assert!(text.contains("mine 1") && text.contains("name=conv3_*") && text.contains("epsilon 1"), "{text}");
    place.lrpc(&["rules", "nothing.toml"]).status(2).says(&["nothing.toml", "cannot be read"]);
}

#[test]
fn operations_that_nothing_arrives_at_have_no_rule() {
    let place = Place::new();
    compiled_with(&place, "[[rule]]\nname = 'conv2_1'\nuse = 'Stop'\n", &[]).good();
    let json = place.lrpc(&["inspect", "m.graph", "--rules", "--format", "json"]).good().json();
    let choices = json["choices"].as_array().unwrap();
    let nothing = choices.iter().find(|one| one["site"] == "conv1_1").unwrap();
    assert_eq!(
        (&nothing["rule"], nothing["nothing_flows"].as_str()),
        (&serde_json::Value::Null, Some("nothing arrives"))
    );
    let served = choices.iter().filter(|one| !one["rule"].is_null()).count();
    assert_eq!(served, json["ledger"].as_array().unwrap().len(), "{json}");
    place.lrpc(&["inspect", "m.graph", "--audit"]).status(2).says(&["--audit changes the plan"]);
}

#[test]
fn inspect_shows_which_rule_each_operation_got_and_why() {
    let place = Place::compiled(&[]);
    let text = place.lrpc(&["inspect", "m.graph", "--rules"]).good().text();
    for words in [
        "carrier=relevance\n  chosen by --rules auto: the model convolves\n",
        "conv1_1    conv     Flat",
        "entry 1 of epsilon-plus-flat: role=first class=linear",
        "entry 1 of epsilon-plus: op=conv|conv_transpose class=linear",
        "entry 1 of epsilon: class=linear",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let json = place.lrpc(&["inspect", "m.graph", "--rules", "--format", "json"]).good().json();
    assert_eq!(json["rules"][0]["because"], "the model convolves");
    let expected = serde_json::json!({ "site": "conv1_1", "op": "conv", "rule": "Flat",
        "entry": "epsilon-plus-flat 1", "text": "role=first class=linear → Flat",
        "why": "entry 1 of epsilon-plus-flat: role=first class=linear" });
    assert_eq!(json["choices"][0], expected);
    assert_eq!(json["choices"].as_array().unwrap().len(), 14);
    let report = place.compile(&mnist(), "m.graph", &["--format", "json"]).good().json();
    assert_eq!(report["applications"][0]["entry"]["name"], "epsilon-plus-flat 1");
}

#[test]
fn several_composites_each_say_why() {
    let place = Place::compiled(&["--rules", "epsilon", "--rules", "gradient"]);
    let text = place.lrpc(&["inspect", "m.graph", "--rules"]).good().text();
    assert!(text.contains("epsilon fc1") && text.contains("gradient fc1"), "{text}");
    assert!(text.contains("entry 1 of gradient: any operation"), "{text}");
}

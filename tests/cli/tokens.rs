//! `--tokens`, `--reduce` and `--color`, on the example transformer: `input_ids` i64[N, S] → `logits` f32[N, 2].

use crate::support::{Answer, Place, repository};
use lrpc::data::Tensor;

/// The ids of words in the example's vocabulary.
fn ids(words: &[&str]) -> Tensor {
    let vocabulary = std::fs::read_to_string(repository("examples/sentiment/vocab.txt")).unwrap();
    let id = |word: &&str| vocabulary.lines().position(|line| line == *word).unwrap() as i64;
    let ids: Vec<i64> = words.iter().map(id).collect();
    Tensor::from_slice(&[1, ids.len()], &ids).unwrap()
}

fn place() -> Place {
    let place = Place::new();
    place.write("x.npz", &[("input_ids", ids(&["not", "funny", "."]))]);
    place
}

fn explain(place: &Place, flags: &[&str]) -> Answer {
    let model = repository("examples/sentiment/sentiment.onnx");
    place.lrpc(&[&["explain", model.to_str().unwrap(), "--inputs", "x.npz", "--rules", "epsilon"], flags].concat())
}

fn vocabulary() -> String {
    repository("examples/sentiment/vocab.txt").to_str().unwrap().into()
}

#[test]
fn every_example_sentence_is_explained_by_its_words() {
    let place = Place::new();
    for (sentence, class, word) in [("praise", "1", "warm"), ("complaint", "0", "mess"), ("mixed", "0", "boring")] {
        let model = repository("examples/sentiment/sentiment.onnx");
        let input = format!("input_ids={}", repository(&format!("examples/sentiment/{sentence}.npy")).display());
        let flags = ["--input", &input, "--tokens", &vocabulary(), "--rules", "epsilon", "--format", "json"];
        let report = place.lrpc(&[&["explain", model.to_str().unwrap()], &flags[..]].concat()).good().json();
        assert_eq!(report["best"][0]["class"], class);
        let tokens = report["tokens"][0]["tensors"][0]["tokens"].as_array().unwrap();
        let relevance = |token: &serde_json::Value| token["relevance"].as_f64().unwrap();
        let strongest = tokens.iter().max_by(|a, b| relevance(a).total_cmp(&relevance(b))).unwrap();
        assert_eq!(strongest["token"], word, "{tokens:?}");
        let (sum, arrived) = (tokens.iter().map(relevance).sum::<f64>(), &report["arrived"]["relevance/words"]);
        assert!((sum - arrived.as_f64().unwrap()).abs() < 1e-4, "{sum} {arrived}");
    }
}

#[test]
fn tokens_are_written_as_numbers_colours_and_html() {
    let place = place();
    let tokens = vocabulary();
    let plain = explain(&place, &["--tokens", &tokens]).good().says(&["explained: class 1", "arrived"]).text();
    let lines: Vec<&str> = plain.lines().collect();
    assert!(lines[0].starts_with("input_ids (words)  sum "), "{plain}");
    assert!(lines[3].ends_with("  not") && lines[4].ends_with("  funny") && lines[5].ends_with("  ."), "{plain}");
    let coloured = |variables: &[(&str, &str)], flags: &[&str]| {
        let model = repository("examples/sentiment/sentiment.onnx");
        let base = ["explain", model.to_str().unwrap(), "--inputs", "x.npz", "--rules", "epsilon", "--tokens", &tokens];
        let mut command = place.command(&[&base[..], flags].concat());
        command.env_remove("NO_COLOR").env_remove("COLORTERM").envs(variables.iter().copied());
        Answer::from(command.output().unwrap()).good().text()
    };
    assert!(coloured(&[("COLORTERM", "truecolor")], &["--color", "always"]).contains(";48;2;"));
    assert!(coloured(&[], &["--color", "always"]).contains(";48;5;"));
    assert_eq!(coloured(&[("COLORTERM", "truecolor")], &[]), plain, "standard output is no terminal");
    let answer = explain(&place, &["--tokens", &tokens, "-o", "why.html"]).good().says(&["wrote why.html"]);
    assert_eq!(answer.text(), plain);
    let page = std::fs::read_to_string(place.path("why.html")).unwrap();
    assert!(page.contains(">funny</span>") && page.contains("<title>Explained: class 1, score "), "{page}");
    assert_eq!(explain(&place, &["--tokens", &tokens, "-o", "-"]).good().text(), page);
}

#[test]
fn gradients_are_shown_by_their_magnitudes() {
    let (place, model) = (place(), repository("examples/sentiment/sentiment.onnx"));
    let explained = |flags: &[&str]| {
        let model = model.to_str().unwrap();
        place.lrpc(&[&["explain", model, "--inputs", "x.npz", "--rules", "gradient"], flags].concat()).good()
    };
    let answer = explained(&[]).says(&["note: a token shows the sum of its gradient's magnitudes"]);
    let text = answer.text();
    assert!(text.contains("\ngradient\n") && !text.contains("relevance\n") && !text.contains("\n-1"), "{text}");
    let signed = explained(&["--reduce", "tokens=sum"]);
    assert!(!signed.stderr.contains("note: a token") && signed.text() != text, "{}", signed.stderr);
}

#[test]
fn several_targets_and_composites_have_a_block_each() {
    let place = place();
    let both = ["--target", "logits[:, 0]", "--target", "logits[:, 1]", "--rules", "input-x-gradient"];
    let text = explain(&place, &[&both[..], &["--tokens", &vocabulary()]].concat()).good().text();
    let labels: Vec<&str> = text.lines().filter(|line| line.contains("logits[")).collect();
    let expected = ["epsilon, logits[:, 0]", "epsilon, logits[:, 1]", "input-x-gradient, logits[:, 0]"];
    assert_eq!(labels[..3], expected);
    assert_eq!(text.matches("funny").count(), 4, "{text}");
}

#[test]
fn samples_have_a_block_each_and_unnamed_tokens_are_numbers() {
    let place = place();
    place.write("x.npz", &[("input_ids", Tensor::from_slice(&[2, 2], &[1i64, 2, 3, 4]).unwrap())]);
    let text = explain(&place, &[]).good().text();
    assert!(text.starts_with("sample 0\n") && text.contains("\nsample 1\n") && text.contains("  4\n"), "{text}");
    std::fs::write(place.path("t.json"), "[[\"a\", \"b\"], [\"c\", \"d\"]]").unwrap();
    let text = explain(&place, &["--tokens", "input_ids=t.json"]).good().text();
    assert!(text.find("  b\n") < text.find("sample 1") && text.contains("  d\n"), "{text}");
}

#[test]
fn hostile_token_files_are_refused_or_escaped() {
    let place = place();
    std::fs::write(place.path("html.json"), r#"["<script>", "\"'&", "\u001b[2J\u202e"]"#).unwrap();
    let answer = explain(&place, &["--tokens", "html.json", "-o", "t.html", "--color", "always"]).good();
    assert!(!answer.text().contains("\u{1b}[2J") && answer.text().contains("\\u{1b}[2J\\u{202e}"));
    let page = std::fs::read_to_string(place.path("t.html")).unwrap();
    assert!(page.contains(">&lt;script&gt;</span>") && page.contains(">&quot;&#39;&amp;</span>"), "{page}");
    for (content, words) in [
        (&b"a\nb\xff\n"[..], "no UTF-8"),
        (b"[1, 2]", "write a list of tokens"),
        (b"a\nb\n", "it has 2 tokens, the input has 3"),
        (b"[[\"a\"]]", "its lists have 1 tokens, the input has 3"),
    ] {
        std::fs::write(place.path("bad"), content).unwrap();
        explain(&place, &["--tokens", "bad"]).status(3).says(&["--tokens bad", words]);
    }
    let huge = std::fs::File::create(place.path("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    explain(&place, &["--tokens", "huge"]).status(3).says(&["the limit is"]);
    explain(&place, &["--tokens", "none"]).status(3).says(&["--tokens none"]);
    explain(&place, &["--tokens", "mask=html.json"]).status(2).says(&["mask", "input_ids"]);
    explain(&place, &["--tokens", "bad", "-o", "t.png"]).status(2).says(&[".html"]);
    explain(&place, &["--tokens", "bad", "-o", "x.npz"]).status(2).says(&[".html"]);
    explain(&place, &["--reduce", "none"]).status(2).says(&["one number for each token"]);
}

#[test]
fn run_reduces_and_says_so() {
    let place = place();
    let model = repository("examples/sentiment/sentiment.onnx");
    place.compile(&model, "m.graph", &["--rules", "epsilon"]).good();
    place.run(&[]).good();
    let whole = place.read("r.npz").tensors["relevance/words"].clone();
    assert_eq!(whole.shape(), [1, 3, 32]);
    assert!(place.manifest("r.npz").get("reduce").is_none());
    for (how, absolute) in [("sum", false), ("abs", true)] {
        place.run(&["--reduce", &format!("tokens={how}")]).good();
        let reduced = place.read("r.npz").tensors["relevance/words"].clone();
        assert_eq!((reduced.shape(), reduced.dtype()), (&[1, 3][..], whole.dtype()));
        assert_eq!(place.manifest("r.npz")["reduce"]["tokens"], how);
        let expected = whole.to_f64();
        for (token, value) in reduced.to_f64().into_iter().enumerate() {
            let hidden = expected[token * 32..(token + 1) * 32].iter();
            let sum: f64 = hidden.map(|x| if absolute { x.abs() } else { *x }).sum();
            assert!((value - sum).abs() < 1e-6, "{how} {token}: {value} {sum}");
        }
    }
    let tokens = vocabulary();
    let answer = place.run(&["--want", "relevance/*", "--tokens", &tokens, "--reduce", "tokens=sum"]).good();
    assert!(answer.text().contains("  funny\n"), "{}", answer.text());
    assert_eq!(place.read("r.npz").tensors.keys().collect::<Vec<_>>(), ["relevance/words"]);
    let json = place.run(&["--tokens", &tokens, "--format", "json"]).good().json();
    assert_eq!(json["tokens"][0]["tensors"][0]["tokens"][1]["token"], "funny");
    place.run(&["--reduce", "channels=sum"]).status(2).says(&["no result is the relevance of an image"]);
    place.run(&["--reduce", "tokens=mean"]).status(2).says(&["sum, abs, none"]);
}

#[test]
fn channels_of_images_are_reduced() {
    let place = Place::compiled(&["--rules", "epsilon"]);
    place.write("x.npz", &[("input", crate::support::digits(&[1, 2]))]);
    place.run(&["--reduce", "channels=abs"]).good();
    let reduced = &place.read("r.npz").tensors["relevance/input"];
    assert_eq!(reduced.shape(), [2, 28, 28]);
    assert!(reduced.to_f64().iter().all(|&value| value >= 0.0));
    place.run(&["--reduce", "tokens=sum"]).status(2).says(&["no result is the relevance of an embedding"]);
}

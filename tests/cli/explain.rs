//! `lrpc explain`.

use crate::support::{Place, mnist, repository};

fn explain(place: &Place, digit: &str, flags: &[&str]) -> crate::support::Answer {
    let (model, image) = (mnist(), repository(&format!("examples/mnist/digit_{digit}.png")));
    let base = ["explain", model.to_str().unwrap(), "--image", image.to_str().unwrap(), "-o", "heat.png"];
    place.lrpc(&[&base[..], flags].concat())
}

#[test]
fn every_example_digit_is_recognised_and_drawn() {
    let place = Place::new();
    for digit in ["0", "3", "4", "7", "8"] {
        let report = explain(&place, digit, &["--format", "json"]).good().json();
        assert_eq!(report["best"][0]["class"], digit);
        let (seed, arrived) =
            (report["seed"].as_f64().unwrap(), report["arrived"]["relevance/input"].as_f64().unwrap());
        assert!((seed - arrived).abs() < 0.05 * seed.abs(), "{seed} {arrived}");
        let picture = image::open(place.path("heat.png")).unwrap().into_rgb8();
        let colours: std::collections::HashSet<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
        assert!(colours.len() > 50, "{} colours", colours.len());
    }
    assert_eq!(place.files(), ["heat.png"]);
}

#[test]
fn the_target_and_its_label_are_named() {
    let place = Place::new();
    std::fs::write(place.path("labels.json"), "{\"3\": \"three\", \"8\": \"eight\"}").unwrap();
    let answer = explain(&place, "8", &["--labels", "labels.json"]).good();
    answer.says(&["explained: class 8 (eight)", "3 (three)", "arrived", "wrote heat.png"]);
    let answer = explain(&place, "8", &["--labels", "labels.json", "--target", "logits[0,3]"]).good();
    answer.says(&["explained: class 3 (three) (logits[0,3])"]);
}

#[test]
fn preprocessing_that_is_impossible_is_told() {
    let place = Place::new();
    explain(&place, "8", &["--mean", "0.5,0.5,0.5"]).status(3).says(&["3 values of mean for 1 channels"]);
    explain(&place, "8", &["--percentile", "0"]).status(3).says(&["percentile of 0"]);
    explain(&place, "8", &["--layout", "nhwc"]).status(2).says(&["no input that takes an image"]);
    explain(&place, "8", &["--wrt", "pool1"]).status(2).says(&["--wrt input"]);
    explain(&place, "8", &["--rules", "epsilon", "--rules", "gamma"]).status(2).says(&["one composite"]);
    explain(&place, "9", &[]).status(3).says(&["digit_9.png"]);
    explain(&place, "8", &["--device", "cuda:0"]).status(7).says(&["cuda:0", "CPU alone"]);
    assert!(place.files().is_empty());
}

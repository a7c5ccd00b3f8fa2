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
    explain(&place, "8", &["--mean", "0.5,0.5,0.5"]).status(2).says(&["3 values of mean for 1 channel; give 1"]);
    explain(&place, "8", &["--scale", "1e38"]).status(2).says(&["pixels infinite"]);
    explain(&place, "8", &["--std", "0"]).status(2).says(&["std must not be 0"]);
    for percentile in ["0", "101", "nan"] {
        explain(&place, "8", &["--percentile", percentile]).status(2).says(&["percentile of", percentile]);
    }
    for pixels in ["0", "4000000000"] {
        explain(&place, "8", &["--resize", pixels]).status(2).says(&["--resize", pixels]);
    }
    explain(&place, "8", &["--resize", "14"]).status(2).says(&["--resize 14", "28x28", "at least --resize 28"]);
    explain(&place, "8", &["--resize", "30000"]).status(2).says(&["cannot be resized", "30000"]);
    explain(&place, "8", &["--crop", "20x28"]).status(2).says(&["--crop 20x28", "the model reads 28x28"]);
    explain(&place, "8", &["--layout", "nhwc"]).status(2).says(&["no input that takes an image"]);
    explain(&place, "8", &["--wrt", "pool1"]).status(2).says(&["--wrt input"]);
    explain(&place, "8", &["--rules", "epsilon", "--rules", "gamma"]).status(2).says(&["one composite"]);
    explain(&place, "9", &[]).status(3).says(&["digit_9.png"]);
    explain(&place, "8", &["--device", "cuda:0"]).status(7).says(&["cuda:0", "CPU alone"]);
    assert!(place.files().is_empty());
}

#[test]
fn an_image_of_the_right_size_is_resized_all_the_same() {
    let place = Place::new();
    explain(&place, "8", &[]).good();
    let whole = std::fs::read(place.path("heat.png")).unwrap();
    explain(&place, "8", &["--resize", "28", "--crop", "28"]).good();
    assert!(std::fs::read(place.path("heat.png")).unwrap() == whole);
    explain(&place, "8", &["--resize", "56"]).good();
    assert!(std::fs::read(place.path("heat.png")).unwrap() != whole, "the middle of 56 by 56 pixels");
}

#[test]
fn the_picture_is_a_png_and_no_input() {
    let place = Place::new();
    let image = repository("examples/mnist/digit_3.png");
    std::fs::copy(&image, place.path("digit.png")).unwrap();
    let model = mnist();
    let base = ["explain", model.to_str().unwrap(), "--image", "digit.png", "-o"];
    let to = |output: &str| place.lrpc(&[&base[..], &[output]].concat());
    to("digit.png").status(2).says(&["digit.png would overwrite the image, digit.png"]);
    assert_eq!(std::fs::read(place.path("digit.png")).unwrap(), std::fs::read(image).unwrap());
    to("heat.jpg").status(2).says(&["heat.jpg", ".png"]);
    to("no/heat.png").status(2).says(&["there is no folder no"]);
    let streamed = to("-").good().stdout;
    to("heat.png").good();
    assert!(std::fs::read(place.path("heat.png")).unwrap() == streamed);
}

#[test]
fn what_does_not_arrive_is_accounted_for() {
    let place = Place::new();
    let answer = explain(&place, "8", &["--rules", "epsilon(eps=1000)"]).good();
    answer.says(&["did not arrive; absorbed: ", "by stabiliser ", "a smaller eps"]);
    assert!(!explain(&place, "8", &[]).good().stderr.contains("did not arrive"));
}

#[test]
fn a_gradient_is_called_one() {
    let place = Place::new();
    let answer = explain(&place, "8", &["--rules", "gradient"]).good().says(&["gradient "]);
    assert!(!answer.stderr.contains("arrive"), "{}", answer.stderr);
    assert_eq!(explain(&place, "8", &["--rules", "gradient", "--format", "json"]).good().json()["gradient"], true);
}

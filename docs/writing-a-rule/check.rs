#[test]
pub fn square_ratio() {
    let mut count = Count::default();
    for seed in 0..CASES {
        let random = &mut Random::new(seed);
        let eps = random.pick(&[0.0, 1e-6, 1e-2]);
        let pair = Pair::draw(random, &["add", "sub"]);
        let site = pair.site("SquareRatio", &format!("eps = {eps:?}"));
        site.check(random, &mut count, |r| pair.expected(square_split(&pair.contributions(), r, eps)));
    }
    count.suffices(CASES as usize);
}

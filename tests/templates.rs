//! Every template in pkg-templates/ is a good package file, with and without its commented settings.

use pkgctl::package::parse;

#[test]
fn every_template_is_a_good_package_file() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pkg-templates");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = path.display().to_string();
        let uncommented: String = text.lines().map(|l| l.strip_prefix("#= ").unwrap_or(l).to_owned() + "\n").collect();
        for text in [&text, &uncommented] {
            let package = parse(&shown, text).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(Some(package.name.as_str()), path.file_stem().and_then(|s| s.to_str()));
        }
        seen += 1;
    }
    assert!(seen >= 2);
}

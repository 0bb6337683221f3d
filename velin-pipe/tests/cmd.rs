//! The command line as people see it: exact texts and exit codes.

#[test]
fn every_documented_text_is_what_is_printed() {
    trycmd::TestCases::new()
        // Names are searched for here and nowhere in the home of whoever runs the tests.
        .env("VELIN_CONFIG_DIR", "/nosuch")
        .env("XDG_CONFIG_HOME", "/nosuch")
        .case("tests/cmd/*.trycmd");
}

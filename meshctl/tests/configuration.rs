//! The page on configuration is printed from the definitions of the keys, so it cannot be wrong.

use chassis::env::table;

#[test]
fn the_page_on_configuration_is_what_the_keys_say() {
    let page = format!(
        "# Configuration\n\n\
         Each program reads its settings from the environment, all at once, and names every mistake before it ends. Names and\n\
         defaults are Istio's where Istio has them. This page is printed from the definitions in the code; a test compares it.\n\n\
         ## ztunnel\n\n{}\n## waypoint\n\n{}\n## The node agent\n\n{}\n## istiod-lite\n\n{}",
        table(&ztunnel::config::keys()),
        table(&waypoint::config::keys()),
        table(&ztunnel::agent::config::ROWS),
        table(&istiod_lite::config::ROWS),
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let wanted = concat!(env!("CARGO_TARGET_TMPDIR"), "/configuration.md");
    std::fs::write(wanted, &page).expect("the target folder can be written");
    assert_eq!(found, page, "docs/configuration.md is not what the keys say; copy {wanted} over it");
}

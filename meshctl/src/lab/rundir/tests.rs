use super::*;

#[test]
fn a_name_must_make_a_short_file_name() {
    for (name, fits) in [("lab", true), ("ci-12", true), ("", false), ("../x", false), ("Lab", false), ("a b", false)] {
        assert_eq!(RunDir::under(Path::new("/base"), name).is_ok(), fits, "{name}");
    }
    assert!(RunDir::under(Path::new("/base"), &"x".repeat(33)).is_err());
}

#[test]
fn a_base_that_is_missing_or_too_long_is_not_used() {
    let temporary = tempfile::tempdir().unwrap();
    assert_eq!(base_dir(Some(temporary.path()), 7), temporary.path().join("meshctl-lab"));
    for base in [None, Some(Path::new("/does/not/exist")), Some(Path::new("relative"))] {
        assert_eq!(base_dir(base, 7), Path::new("/tmp/meshctl-lab-7"));
    }
}

#[test]
fn a_second_lab_of_the_same_name_is_refused_and_a_dead_one_replaced() {
    let base = tempfile::tempdir().unwrap();
    let dir = RunDir::under(&base.path().join("labs"), "one").unwrap();
    dir.create().unwrap();
    fs::write(dir.logs().join("old"), "x").unwrap();
    let lock = dir.lock().unwrap();
    assert!(matches!(dir.create(), Err(RunDirError::Running(_))));
    drop(lock);
    dir.create().unwrap();
    assert!(!dir.logs().join("old").exists());
    dir.remove().unwrap();
    assert!(!dir.exists());
}

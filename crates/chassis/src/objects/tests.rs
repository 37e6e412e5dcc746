//! The directory as its readers see it, with a real kernel underneath.

use super::*;
use crate::limits;
use std::{fs, os::unix::fs::symlink, time::Duration, time::Instant};

fn pod(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn show(events: &[ObjectEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            ObjectEvent::Applied(o) => format!("+{} {}", o.name, o.value["spec"]),
            ObjectEvent::Removed(k) => format!("-{}", k.name),
            ObjectEvent::Problem(p) => format!("!{}", p.file.file_name().unwrap_or_default().to_string_lossy()),
        })
        .collect()
}

/// The next batch, which must come within two seconds and be this.
async fn expect(directory: &mut Directory, expected: &[&str]) {
    match tokio::time::timeout(Duration::from_secs(2), directory.next()).await {
        Ok(events) => assert_eq!(show(&events), expected),
        Err(_) => panic!("nothing came, expected {expected:?}"),
    }
}

#[tokio::test]
async fn the_first_call_tells_everything_and_later_ones_what_changed() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    write(&at("a.yaml"), &pod("a", "1")).unwrap();
    write(&at("deep/er/b.json"), r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"},"spec":1}"#).unwrap();
    fs::write(at("notes.txt"), "not mine").unwrap();
    let mut directory = Directory::open(place.path()).unwrap();
    expect(&mut directory, &["+a 1", "+b 1"]).await;

    write(&at("a.yaml"), &pod("a", "2")).unwrap();
    expect(&mut directory, &["+a 2"]).await;
    fs::write(at("deep/er/b.json"), pod("b", "2")).unwrap();
    expect(&mut directory, &["+b 2"]).await;
    write(&at("status/kubelet/a.yaml"), &pod("a", "{ip: 10.0.0.1}")).unwrap();
    expect(&mut directory, &["+a {\"ip\":\"10.0.0.1\"}"]).await;
    fs::remove_file(at("a.yaml")).unwrap();
    expect(&mut directory, &["-a"]).await;
    fs::remove_dir_all(at("deep")).unwrap();
    expect(&mut directory, &["-b"]).await;
}

#[tokio::test]
async fn a_large_directory_comes_in_parts_for_those_who_ask_for_them() {
    const SOON: Duration = Duration::from_secs(10);
    let place = tempfile::tempdir().unwrap();
    for file in 0..3 {
        let pods: String = (0..600).map(|n| pod(&format!("p-{file}-{n}"), "1")).collect();
        write(&place.path().join(format!("{file}.yaml")), &pods).unwrap();
    }
    let mut directory = Directory::open(place.path()).unwrap();
    let first = tokio::time::timeout(SOON, directory.next_part()).await.unwrap();
    let rest = tokio::time::timeout(SOON, directory.next_part()).await.unwrap();
    assert_eq!((first.events.len(), first.more, rest.events.len(), rest.more), (1200, true, 600, false));

    let mut other = Directory::open(place.path()).unwrap();
    assert_eq!(tokio::time::timeout(SOON, other.next()).await.unwrap().len(), 1800);
}

#[tokio::test]
async fn an_empty_directory_is_told_as_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut directory = Directory::open(place.path()).unwrap();
    expect(&mut directory, &[]).await;
}

#[tokio::test]
async fn a_missing_directory_is_an_error_that_names_it() {
    let text = Directory::open("/does/not/exist").unwrap_err().to_string();
    assert!(text.starts_with("/does/not/exist is not a readable directory"), "{text}");
}

#[tokio::test]
async fn an_unreadable_file_keeps_what_it_had() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.yaml");
    write(&file, &pod("a", "1")).unwrap();
    let mut directory = Directory::open(place.path()).unwrap();
    expect(&mut directory, &["+a 1"]).await;
    write(&file, "kind: [\n").unwrap();
    expect(&mut directory, &["!a.yaml"]).await;
    fs::write(&file, b"\xff\xfe").unwrap();
    expect(&mut directory, &["!a.yaml"]).await;
    fs::File::create(&file).unwrap().set_len(limits::OBJECT_FILE_BYTES_MAX + 1).unwrap();
    expect(&mut directory, &["!a.yaml"]).await;
    write(&file, &pod("a", "2")).unwrap();
    expect(&mut directory, &["+a 2"]).await;
}

#[tokio::test]
async fn a_file_that_is_renamed_does_not_lose_its_objects() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    write(&at("z.yaml"), &pod("a", "1")).unwrap();
    let mut directory = Directory::open(place.path()).unwrap();
    expect(&mut directory, &["+a 1"]).await;
    fs::rename(at("z.yaml"), at("a.yaml")).unwrap();
    write(&at("end.yaml"), &pod("end", "1")).unwrap();
    loop {
        let events = tokio::time::timeout(Duration::from_secs(2), directory.next()).await.unwrap();
        assert!(!show(&events).contains(&"-a".to_owned()));
        if show(&events).contains(&"+end 1".to_owned()) {
            break;
        }
    }
}

#[tokio::test]
async fn a_configmap_mount_is_followed_when_its_data_is_swapped() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    write(&at("..v1/a.yaml"), &pod("a", "1")).unwrap();
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut directory = Directory::open(place.path()).unwrap();
    expect(&mut directory, &["+a 1"]).await;

    write(&at("..v2/a.yaml"), &pod("a", "2")).unwrap();
    symlink("..v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    expect(&mut directory, &["+a 2"]).await;
}

#[tokio::test]
async fn directories_may_link_to_themselves() {
    let place = tempfile::tempdir().unwrap();
    write(&place.path().join("a.yaml"), &pod("a", "1")).unwrap();
    symlink(place.path(), place.path().join("again")).unwrap();
    let mut directory = Directory::open(place.path()).unwrap();
    expect(&mut directory, &["+a 1"]).await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut directory = Directory::open(place.path()).unwrap();
    expect(&mut directory, &[]).await;
    for n in 0..50 {
        write(&place.path().join("a.yaml"), &pod("a", &n.to_string())).unwrap();
        let last = format!("+a {n}");
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            assert!(Instant::now() < patience, "{last} never came");
            let polled = tokio::time::timeout(Duration::from_micros(200), directory.next()).await;
            if polled.is_ok_and(|events| show(&events).contains(&last)) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_change_is_told_at_once() {
    let place = tempfile::tempdir().unwrap();
    let mut directory = Directory::open(place.path()).unwrap();
    directory.next().await;
    let mut waits = Vec::new();
    for n in 0..20 {
        let began = Instant::now();
        write(&place.path().join(format!("{n}.yaml")), &pod(&format!("p{n}"), "1")).unwrap();
        directory.next().await;
        waits.push(began.elapsed());
    }
    waits.sort();
    // 5 ms of settling and the reading; a loaded test machine is given ten times that.
    assert!(waits[10] < Duration::from_millis(50), "median {:?}", waits[10]);
}

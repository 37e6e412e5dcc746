use super::*;

/// What a text gives: `kind namespace/name` of each object, then `line: reason`
/// of each problem as far as it is given.
fn check(text: &str, objects: &[&str], problems: &[&str]) {
    let (found, trouble) = read(Path::new("a.yaml"), text);
    let found: Vec<_> = found.keys().map(|key| format!("{} {}/{}", key.kind, key.namespace, key.name)).collect();
    assert_eq!(found, objects, "{text}");
    let trouble: Vec<_> = trouble.iter().map(|problem| format!("{}: {}", problem.line, problem.reason)).collect();
    let fits = trouble.len() == problems.len() && trouble.iter().zip(problems).all(|(a, b)| a.starts_with(b));
    assert!(fits, "{text}\n gave     {trouble:#?}\n expected {problems:#?}");
}

#[test]
fn an_object_without_a_namespace_is_in_default_unless_its_kind_has_none() {
    check("{apiVersion: v1, kind: Pod, metadata: {name: a}}", &["Pod default/a"], &[]);
    check("{apiVersion: v1, kind: Namespace, metadata: {name: a}}", &["Namespace /a"], &[]);
    check("{apiVersion: v1, kind: Node, metadata: {name: a, namespace: b}}", &["Node /a"], &[]);
}

#[test]
fn what_cannot_be_run_is_named_with_its_line_and_the_rest_is_taken() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Frob\nmetadata: {name: b}\n";
    check(text, &["Pod default/a"], &["5: kind Frob is not one the lab can run"]);
    check("kind: [\n", &[], &["1: cannot be read as YAML"]);
}

#[test]
fn names_that_could_lead_out_of_a_directory_are_refused() {
    for name in ["../x", "A", "a/b", ".a", "a b"] {
        let text = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: '{name}'}}}}");
        check(&text, &[], &[&format!("1: Pod: `{name}` is not a name")]);
    }
}

#[test]
fn of_two_descriptions_of_one_object_the_later_counts_and_the_earlier_is_told() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
    check(&format!("{pod}---\n{pod}"), &["Pod default/a"], &["1: pod/a is described a second time"]);
}

#[test]
fn the_sample_shop_is_taken_whole() {
    let (objects, problems) = read(Path::new("shop.yaml"), crate::lab::shop::MANIFESTS);
    assert_eq!(problems, []);
    assert!(objects.contains_key(&Key::new("Deployment", "shop", "productpage-v1")));
}

//! Each construct of a filter, each row a sentence.

use super::*;
use proptest::prelude::*;

struct Example;

impl Facts for Example {
    fn field(&self, field: &Field) -> Value<'_> {
        match field {
            Field::Method => Value::Text("GET".into()),
            Field::Path => Value::Text("/a?b".into()),
            Field::Host => Value::Text("shop.example".into()),
            Field::Header(name) if name == "x-user" => Value::Text("ann".into()),
            Field::Code => Value::Number(503.0),
            Field::Flags => Value::Text("UF,URX".into()),
            Field::Duration => Value::Number(12.5),
            Field::Mtls => Value::Truth(true),
            Field::Source(Party::Namespace) => Value::Text("shop".into()),
            _ => Value::Nothing,
        }
    }
}

#[test]
fn a_filter_is_true_or_not() {
    for (text, expected) in [
        ("true", true),
        ("false", false),
        ("!false", true),
        ("!!true", true),
        ("response.code >= 500", true),
        ("response.code == 503", true),
        ("response.code != 503", false),
        ("response.code < 503 || response.code > 503", false),
        ("response.code <= 503.0", true),
        ("request.duration > 12", true),
        ("-1 < 0", true),
        ("request.method == 'GET' && response.code == 503", true),
        ("request.method == \"GET\" && response.code == 200", false),
        ("request.method in ['PUT', 'GET']", true),
        ("request.method in []", false),
        ("!(request.method in ['PUT'])", true),
        ("request.headers['X-User'] == 'ann'", true),
        ("request.headers['x-none'] == 'ann'", false),
        ("has(request.headers['x-user'])", true),
        ("!has(request.headers['x-none'])", true),
        ("request.path.startsWith('/a')", true),
        ("request.path.endsWith('b')", true),
        ("response.flags.contains('URX')", true),
        ("request.host.matches('^shop[.]')", true),
        ("request.host.matches('^example')", false),
        ("connection.mtls", true),
        ("!connection.mtls", false),
        ("connection.mtls == true", true),
        ("source.namespace == 'shop' && !has(destination.workload)", true),
        ("'it\\'s' == \"it's\"", true),
        ("'a' < 'b'", true),
        // `&&` binds more than `||`.
        ("true || false && false", true),
        ("(true || false) && false", false),
        // What is not there is neither equal nor unequal, and decides nothing by itself.
        ("request.scheme == 'http'", false),
        ("request.scheme != 'http'", false),
        ("!(request.scheme == 'http')", false),
        ("request.scheme == 'http' || true", true),
        ("!(request.scheme == 'http' && false)", true),
        ("request.scheme in ['http']", false),
        ("request.scheme.contains('')", false),
        // A text and a number are unequal, and have no order.
        ("request.method == 503", false),
        ("request.method != 503", true),
        ("request.method < 503", false),
        ("request.method", false),
        ("response.code", false),
        ("!request.method", false),
    ] {
        let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expression.is_true(&Example), expected, "{text}");
    }
}

#[test]
fn every_field_that_is_told_of_is_known() {
    let fields = [
        ("request", "method path url_path host scheme size id useragent protocol duration headers['x']"),
        ("response", "code flags size code_details grpc_status"),
        ("connection", "mtls requested_server_name"),
        ("source", "address principal workload namespace"),
        ("destination", "address principal workload namespace"),
    ];
    for (of, names) in fields {
        for name in names.split(' ') {
            Expression::parse(&format!("has({of}.{name})")).unwrap_or_else(|error| panic!("{of}.{name}: {error}"));
        }
    }
}

#[test]
fn a_mistake_is_named_with_its_column() {
    for (text, column, reason) in [
        ("", 1, "a value"),
        ("response.code >", 16, "a value"),
        ("response.code > > 1", 17, "a value"),
        ("response.kode == 1", 1, "no field response.kode"),
        ("true && other.code == 1", 9, "no field other.code"),
        ("response", 9, "\".\""),
        ("request.headers[x]", 17, "a text"),
        ("request.headers['x'", 20, "\"]\""),
        ("(true", 6, "\")\""),
        ("true)", 5, "should end"),
        ("true true", 6, "should end"),
        ("1 < 2 < 3", 7, "should end"),
        ("'abc", 1, "does not end"),
        ("'a\\x'", 4, "after \\"),
        ("'ä' == §", 8, "no meaning"),
        ("1.2.3 == 1", 1, "no number"),
        ("request.method.size() == 1", 16, "no function \"size\""),
        ("request.method.contains", 24, "\"(\""),
        ("request.method.upper('a')", 16, "no function \"upper\""),
        ("request.method.matches('(')", 24, "unclosed group"),
        ("request.method.matches(request.host)", 24, "stands here"),
        ("request.method in 'GET'", 19, "\"[\""),
        ("has('x')", 5, "a field"),
        ("- 'a'", 3, "a number"),
        ("a = b", 3, "no meaning"),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert!(error.column == column && error.reason.contains(reason), "{text}: {error}");
    }
}

#[test]
fn depth_and_length_have_limits() {
    let nested = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(31)).is_ok());
    for text in [nested(32), nested(2000), format!("{}true", "!".repeat(2000)), "x".repeat(5000)] {
        assert!(Expression::parse(&text).is_err());
    }
    // Not deep, only long.
    let long = vec!["response.code == 503"; 150].join(" && ");
    assert!(Expression::parse(&long).expect("a good filter").is_true(&Example));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_text_panics(words in prop::collection::vec(prop::sample::select(&[
        "request", "response", ".", "code", "method", "headers", "[", "]", "'x'", "\"", "'", "\\", "(", ")", "!", "&&", "||",
        "==", "<", "<=", "in", "has", "matches", "startsWith", "true", "1", "-", ",", " ", "é",
    ][..]), 0..25)) {
        if let Ok(expression) = Expression::parse(&words.concat()) {
            let _ = expression.is_true(&Example);
        }
        if let Ok(expression) = Expression::parse(&words.join(" ")) {
            let _ = expression.is_true(&Example);
        }
    }
}

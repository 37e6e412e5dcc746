//! TCPRoute and TLSRoute, and which of several has a port.

use super::{route, shop, show};

const WEB: &str = "parentRefs: [{group: '', kind: Service, name: web, port: 82}]";

#[test]
fn routes_of_connections() {
    let index = shop(&format!(
        "{}{}",
        route(
            "TCPRoute",
            "t",
            &format!(
                "{WEB}\nrules: [{{backendRefs: [{{name: api, port: 8080, weight: 9}}, {{name: gone, port: 1}}]}}]"
            )
        ),
        route(
            "TLSRoute",
            "s",
            &format!(
                "{WEB}\nhostnames: [a.example, '*.b.example']\nrules: [{{backendRefs: [{{name: api, port: 8080}}]}}]"
            )
        ),
    ));
    assert_eq!(
        show::rules(&index),
        [
            "shop/web.shop to shop/wp",
            "  tls TLSRoute/shop/s ports [82] for a.example,*.b.example → shop/api.shop:8080×1",
            "  tcp TCPRoute/shop/t ports [82] → shop/api.shop:8080×9, <there is no Service shop/gone>×1",
        ]
    );
}

#[test]
fn of_several_for_a_port_the_oldest_has_it() {
    let tcp = |name: &str, created: &str| {
        let spec = format!("{WEB}\nrules: [{{backendRefs: [{{name: api, port: 8080}}]}}]");
        route("TCPRoute", name, &spec)
            .replace("namespace: shop}", &format!("namespace: shop, creationTimestamp: '{created}'}}"))
    };
    let (old, new) = (tcp("z", "2020-01-01T00:00:00Z"), tcp("a", "2021-01-01T00:00:00Z"));
    for text in [format!("{old}{new}"), format!("{new}{old}")] {
        let index = shop(&text);
        let rules = show::rules(&index);
        assert_eq!((rules.len(), rules[1].contains("TCPRoute/shop/z")), (2, true), "{rules:?}");
        assert_eq!(
            show::unmet(&index),
            [
                "TCPRoute/shop/a Service/shop/web:82: !Accepted/ParentRefConflict: TCPRoute/shop/z is older and has the same ports"
            ]
        );
    }
}

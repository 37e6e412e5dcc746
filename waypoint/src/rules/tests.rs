use std::sync::Arc;

use mesh::Change;

use super::*;
use crate::authn::fetch::Direct;

fn web() -> ServiceKey {
    "shop/web.shop.svc.cluster.local".parse().expect("a key")
}

fn of_gateway() -> Change {
    let rules = GatewayRules::of("shop".into(), "wp".into());
    Change::GatewayRules(Arc::new(CompiledGateway::new(rules).expect("usable rules")))
}

fn of_web() -> Change {
    Change::ServiceRules(Arc::new(Compiled::new(ServiceRules::of(web())).expect("usable rules")))
}

#[tokio::test]
async fn what_has_no_rules_is_not_served() {
    let keys = KeyStore::new(Arc::new(Direct::new().expect("a client")), tokio::runtime::Handle::current());
    let rules = Preparations::new(&"shop".into(), &"wp".into(), false, keys);
    let view = crate::view::CurrentView::default();
    let (no_gateway, no_service) = (Some(Missing::Gateway), Some(Missing::Service));
    let steps: [(Vec<Change>, Option<Missing>, Option<Missing>); 6] = [
        (vec![], no_gateway, no_gateway),
        (vec![of_web()], no_gateway, no_gateway),
        (vec![of_gateway()], None, None),
        (vec![Change::RemoveServiceRules(web().to_string().into())], no_service, None),
        (vec![of_web()], None, None),
        (vec![Change::RemoveGatewayRules("shop/wp".into())], no_gateway, no_gateway),
    ];
    for (step, (changes, of_service, of_workload)) in steps.into_iter().enumerate() {
        view.apply(changes);
        let now = view.now();
        assert_eq!(rules.of(&now, Some(&web())).missing, of_service, "step {step}, the service");
        assert_eq!(rules.of(&now, None).missing, of_workload, "step {step}, a workload");
    }
}

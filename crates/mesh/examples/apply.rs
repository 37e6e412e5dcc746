//! What it costs to replace a view: `cargo run --release -p mesh --example apply [endpoints]`.
//!
//! The mesh has as many pods as asked for (100,000), ten to a service, each with one policy. It
//! prints the time of the first load, of one change (an endpoint that moves to a new address), of
//! a batch of 1000 such changes, and of a look-up.

#![expect(clippy::print_stdout, reason = "this program's output is its purpose")]

use mesh::{Change, Service, ServiceKey, View, Workload, workload::NetworkAddress};
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

const PODS_PER_SERVICE: u32 = 10;

fn address(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

fn key(n: u32) -> ServiceKey {
    let namespace = format!("ns{}", n % 50);
    ServiceKey { hostname: format!("svc-{n}.{namespace}.svc.cluster.local").into(), namespace: namespace.into() }
}

fn pod(n: u32, address: IpAddr) -> Change {
    let key = key(n / PODS_PER_SERVICE);
    let mut pod = Workload::named(&format!("Kubernetes//Pod/{}/pod-{n}", key.namespace));
    pod.name = format!("pod-{n}").into();
    pod.namespace = key.namespace.clone();
    pod.addresses = vec![address];
    pod.authorization_policies = vec!["istio-system/istio_converted_static_strict".into()];
    pod.services.insert(key, [(80, 8080)].into());
    Change::Workload(Arc::new(pod))
}

fn service(n: u32) -> Change {
    let key = key(n);
    let mut service = Service::named(&key.namespace, &key.hostname);
    let vip = Ipv4Addr::from(0x0c00_0000 + n).into();
    service.vips = vec![NetworkAddress { network: "".into(), address: vip }];
    Change::Service(Arc::new(service))
}

fn main() {
    let pods: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let everything: Vec<_> =
        (0..pods / PODS_PER_SERVICE).map(service).chain((0..pods).map(|n| pod(n, address(n)))).collect();
    let mut view = View::default();
    let load = timed(|| view = view.apply(everything));
    println!("first load of {pods} pods: {load:?}");

    // A step that has no common factor with the number of pods touches all parts of the mesh.
    let moved: Vec<_> =
        (0..11_000).map(|n| (n * 7919) % pods).enumerate().map(|(i, n)| pod(n, address(pods + i as u32))).collect();
    let (single, batch) = moved.split_at(10_000);
    let mut times: Vec<_> = single.iter().map(|change| timed(|| view = view.apply([change.clone()]))).collect();
    times.sort();
    println!("one change: median {:?}, 99 % {:?}, worst {:?}", times[5_000], times[9_900], times[9_999]);
    let kept = view.clone();
    println!("1000 changes in one batch: {:?}", timed(|| view = view.apply(batch.to_vec())));
    drop(kept);

    let lookups = timed(|| {
        for n in 0..1_000_000 {
            black_box(view.workload_by_address("", address(n % pods)));
        }
    });
    println!("one look-up by address: {:?}", lookups / 1_000_000);
}

fn timed(act: impl FnOnce()) -> Duration {
    let start = Instant::now();
    act();
    start.elapsed()
}

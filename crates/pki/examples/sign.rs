//! How many certificates one core issues in a second: `cargo run --release -p pki --example sign`.

use pki::{
    csr,
    issue::{Issuer, Lifetimes, ROOT_LIFETIME},
};
use std::time::{Instant, SystemTime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const TOTAL: u32 = 20_000;
    let now = SystemTime::now();
    let issuer = Issuer::self_signed("cluster.local", ROOT_LIFETIME, now)?;
    let identity = "spiffe://cluster.local/ns/shop/sa/web".parse()?;
    let requests = (0..64).map(|_| csr::request(&identity)).collect::<Result<Vec<_>, _>>()?;
    let began = Instant::now();
    for request in requests.iter().cycle().take(TOTAL as usize) {
        issuer.issue(&request.csr, &identity, 0, Lifetimes::default(), now)?;
    }
    let each = began.elapsed() / TOTAL;
    println!("{each:?} each, {:.0} a second", 1.0 / each.as_secs_f64());
    Ok(())
}

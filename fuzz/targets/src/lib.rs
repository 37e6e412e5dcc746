//! What every parser of foreign bytes must survive: one function a target, from bytes to nothing.
//!
//! A target panics where the code under test is wrong: where it panics itself, or where it does
//! not keep a promise that the target checks (what is read and written again reads the same).
//! The same functions run under the fuzzer (`fuzz/`, nightly) and, over the committed seeds and a
//! few thousand mutations of them, in `tests/smoke.rs` on every commit.

mod certificates;
mod configuration;
mod dns;
mod node;
mod objects;
mod requests;
mod tunnels;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: the name of its fuzzer and of its folder of seeds.
    pub name: &'static str,
    /// What is fed.
    pub run: fn(&[u8]),
    /// Inputs from which to begin, made by the code that writes what the target reads.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "hbone_head", run: tunnels::head, seeds: tunnels::head_seeds },
    Target { name: "hbone_server", run: tunnels::server, seeds: tunnels::server_seeds },
    Target { name: "hbone_client", run: tunnels::client, seeds: tunnels::client_seeds },
    Target { name: "hbone_engine", run: tunnels::engine, seeds: tunnels::engine_seeds },
    Target { name: "xds_response", run: configuration::response, seeds: configuration::response_seeds },
    Target { name: "xds_request", run: configuration::request, seeds: configuration::request_seeds },
    Target { name: "zds", run: node::zds, seeds: node::zds_seeds },
    Target { name: "socks5", run: node::socks5, seeds: node::socks5_seeds },
    Target { name: "local_state", run: node::local_state, seeds: node::local_state_seeds },
    Target { name: "cni", run: node::cni, seeds: node::cni_seeds },
    Target { name: "dns_query", run: dns::query, seeds: dns::query_seeds },
    Target { name: "dns_answer", run: dns::answer, seeds: dns::answer_seeds },
    Target { name: "resolv_conf", run: dns::resolv_conf, seeds: dns::resolv_conf_seeds },
    Target { name: "certificate_chain", run: certificates::chain, seeds: certificates::chain_seeds },
    Target { name: "certificate_request", run: certificates::request, seeds: certificates::request_seeds },
    Target { name: "token", run: certificates::token, seeds: certificates::token_seeds },
    Target { name: "identity", run: certificates::identity, seeds: certificates::identity_seeds },
    Target { name: "objects", run: objects::objects, seeds: Vec::new },
    Target { name: "request_target", run: requests::target, seeds: requests::target_seeds },
    Target { name: "request_head", run: requests::head, seeds: requests::head_seeds },
    Target { name: "request_token", run: requests::request_token, seeds: requests::request_token_seeds },
    Target { name: "first_bytes", run: requests::first_bytes, seeds: requests::first_bytes_seeds },
    Target { name: "key_set", run: requests::keys, seeds: requests::keys_seeds },
    Target { name: "expression", run: requests::expression, seeds: requests::expression_seeds },
];

/// Runs one by name; what the fuzzer's programs call.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the fuzzer names a target that exists");
    (target.run)(input);
}

/// Text, as far as bytes are text: parsers of text get nothing else.
fn text(input: &[u8]) -> &str {
    match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&input[..error.valid_up_to()]).unwrap_or_default(),
    }
}

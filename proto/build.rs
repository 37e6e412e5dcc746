//! Compiles the `.proto` files without `protoc`: a fresh machine needs only cargo.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "workload.proto",
        "authorization.proto",
        "discovery.proto",
        "citadel.proto",
        "zds.proto",
        "waypoint.proto",
        "envoy/service/auth/v3/external_auth.proto",
        "envoy/service/ratelimit/v3/rls.proto",
    ];
    println!("cargo::rerun-if-changed=proto");
    let set = protox::compile(files, ["proto"])?;
    let mut config = prost_build::Config::new();
    // Sorted maps give the same bytes for the same content, which the version hash needs.
    config.btree_map(["."]);
    // A `Bytes` address or payload shares the receive buffer instead of copying it.
    config.bytes([".istio.workload.Workload.addresses", ".istio.workload.NetworkAddress.address"]);
    tonic_prost_build::configure().compile_fds_with_config(set, config)?;
    Ok(())
}

//! How to get to the API server: the kubeconfig that `KUBECONFIG` names, else the service account
//! of the pod, else the kubeconfig of a person. It makes no call by itself.

use crate::limits;
use chassis::env::{Key, ProcessEnvironment, Reader, Row, Strings};
use hyper_util::{
    client::legacy::connect::HttpConnector,
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{fmt, path::Path};
use tower::{BoxError, ServiceBuilder};

/// A way to the API server. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: kube::Client,
    server: String,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither a kubeconfig nor the service account of a pod is there.
    #[error("no cluster: set KUBECONFIG to a file that is there, or run in a pod with a service account token: {0}")]
    NoCluster(String),
    /// A kubeconfig is there and cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Certificates or credentials cannot be used.
    #[error("the credentials for {server} cannot be used: {source}")]
    Credentials {
        /// Which server.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The address of a server is none.
    #[error("{0:?} is no address of an API server")]
    Address(String),
}

const KUBECONFIG: Key<String> = Key::new(
    "KUBECONFIG",
    "",
    "paths",
    "Kubeconfig of the cluster; without it, or if no such file is there, the service account of the pod is used.",
);

/// Every variable that is read here. (`KUBERNETES_SERVICE_HOST` and `_PORT`, which each pod has, are too.)
pub const ROWS: [Row; 1] = [KUBECONFIG.row];

impl Client {
    /// The cluster that the environment names.
    pub async fn open() -> Result<Self, OpenError> {
        let config = config(&ProcessEnvironment).await?;
        Self::of_config(config)
    }

    /// The server at this address, without credentials: what plays one in a test, or `kubectl proxy`.
    pub fn at(url: &str) -> Result<Self, OpenError> {
        let url = url.parse().map_err(|_| OpenError::Address(url.to_owned()))?;
        Self::of_config(Config::new(url))
    }

    fn of_config(config: Config) -> Result<Self, OpenError> {
        let server = config.cluster_url.to_string();
        let credentials = |source| OpenError::Credentials { server: server.clone(), source: Box::new(source) };
        // Whoever installed one before chose the same: there is one provider in this workspace.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limits::CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(limits::KEEPALIVE));
        tcp.set_keepalive_interval(Some(limits::KEEPALIVE / 3));
        tcp.set_keepalive_retries(Some(3));
        tcp.set_tcp_user_timeout(Some(2 * limits::KEEPALIVE));
        let tls = config.rustls_https_connector_with_connector(tcp).map_err(credentials)?;
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build::<_, Body>(tls);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().map_err(credentials)?)
            .layer(config.extra_headers_layer().map_err(credentials)?)
            .map_err(BoxError::from)
            .service(http);
        Ok(Self { inner: kube::Client::new(service, config.default_namespace), server })
    }

    /// The address of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The namespace of this pod, or of the kubeconfig.
    pub fn namespace(&self) -> &str {
        self.inner.default_namespace()
    }
}

async fn config(environment: &dyn Strings) -> Result<Config, OpenError> {
    // A text cannot be mistaken, so there is nothing to finish.
    let named = Reader::new(environment).optional(&KUBECONFIG);
    // Istio's chart names a file that is only there where the cluster is another one.
    if named.is_some_and(|paths| paths.split(':').any(|path| Path::new(path).exists()))
        && let Some(kubeconfig) = Kubeconfig::from_env()?
    {
        return Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?);
    }
    let in_pod = match Config::incluster() {
        Ok(config) => return Ok(config),
        Err(reason) => reason,
    };
    match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
        Ok(config) => Ok(config),
        Err(reason) => Err(OpenError::NoCluster(format!("{in_pod}; {reason}"))),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

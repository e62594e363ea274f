//! TLS at the DIdP's own door: gateways that prove a certificate beside their secret (RFC 8705 §2 does it for clients).

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use service::net::{Admission, Listener};

use crate::harness::{Didp, GATEWAY};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key as PEM.
    fn issue(&self, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn client(&self, authority: &str) -> reqwest::Client {
        let (certificate, key) = self.issue(ExtendedKeyUsagePurpose::ClientAuth);
        let identity = reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
        trusting(authority).identity(identity).build().unwrap()
    }
}

fn trusting(authority: &str) -> reqwest::ClientBuilder {
    let authority = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
    reqwest::Client::builder().add_root_certificate(authority).no_proxy()
}

async fn secure(didp: &Didp, dir: &Path) -> String {
    let settings =
        service::tls::mutual_server_config(&dir.join("tls.crt"), &dir.join("tls.key"), &dir.join("clients"));
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().with_tls(settings.unwrap());
    let port = listener.local_addr().unwrap().port();
    let routes = didp::http::routes(didp.app.clone());
    tokio::spawn(service::http::serve(listener, routes, Admission::new(64, 64), didp.app.shutdown.clone()));
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn gateways_come_with_a_certificate_where_the_operator_asks_for_one() {
    service::tls::install_provider();
    let (servers, gateways, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let settings = "listen = { https = \"127.0.0.1:1\" }\ntls = { cert = \"tls.crt\", key = \"tls.key\", client_ca = \"clients\" }";
    let didp = Didp::start_with(settings).await;
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = servers.issue(ExtendedKeyUsagePurpose::ServerAuth);
    for (name, text) in [("tls.crt", certificate), ("tls.key", key), ("clients", gateways.pem.clone())] {
        std::fs::write(files.path().join(name), text).unwrap();
    }
    let base = secure(&didp, files.path()).await;
    let ask = async |client: &reqwest::Client, url: String| {
        let request = client.post(url).basic_auth(GATEWAY.0, Some(GATEWAY.1)).form(&[("token", "x")]);
        request.send().await.map(|answer| answer.status().as_u16())
    };

    let gateway = gateways.client(&servers.pem);
    assert_eq!(ask(&gateway, format!("{base}/introspect")).await.unwrap(), 200);
    let browser = trusting(&servers.pem).build().unwrap();
    for path in ["/introspect", "/introspect/grants"] {
        assert_eq!(ask(&browser, format!("{base}{path}")).await.unwrap(), 401, "the secret was enough");
        assert_eq!(ask(&browser, didp.url(path)).await.unwrap(), 401, "so it was without TLS");
    }
    assert!(ask(&strangers.client(&servers.pem), format!("{base}/introspect")).await.is_err());
    // Everybody else has no certificate and needs none.
    let metadata =
        browser.get(format!("{base}/.well-known/oauth-authorization-server")).send().await.unwrap();
    assert_eq!(metadata.status(), 200);
}

//! `private_key_jwt`, for apps and gateways: RFC 7523 §2.2 and §3; checklist 12, 17, 20.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use service::secret;

use crate::harness::{CALLBACK, Client, DEVELOPER, Didp, OTHER_GATEWAY, text};

const ISSUER: &str = "http://didp.test";
const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    fn jwks(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = (secret::encode(&point[1..33]), secret::encode(&point[33..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "one"}]})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = secret::encode(json!({"alg": "ES256", "kid": "one"}).to_string());
        let signed = format!("{header}.{}", secret::encode(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", secret::encode(signature))
    }

    fn assertion(&self, didp: &Didp, client_id: &str) -> String {
        self.sign(&claims(didp, client_id, &secret::random_token::<16>()))
    }
}

fn claims(didp: &Didp, client_id: &str, jti: &str) -> Value {
    json!({"iss": client_id, "sub": client_id, "aud": ISSUER, "exp": didp.clock.now() + 60, "jti": jti})
}

async fn register(didp: &Didp, jwks: &Value) -> (u16, Value) {
    let metadata = json!({"client_name": "App", "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "private_key_jwt", "jwks": jwks});
    didp.json("/register", Some(DEVELOPER), &metadata).await
}

async fn ask(didp: &Didp, path: &str, assertion: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let mut form = form.to_vec();
    form.extend([("client_assertion_type", TYPE), ("client_assertion", assertion)]);
    didp.form(path, None, &form).await
}

#[tokio::test]
async fn checklist_20_an_app_redeems_refreshes_and_revokes_by_assertions_each_good_once() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let signer = Signer::new();
    let (status, answer) = register(&didp, &signer.jwks()).await;
    assert_eq!(status, 201, "{answer}");
    assert!(answer.get("client_secret").is_none());
    let id = text(&answer["client_id"]);
    let client = Client { client_id: id.clone(), secret: None, method: "private_key_jwt".into() };
    let verifier = secret::random_token::<32>();
    let code = didp.app_code(&anna, &client, &verifier).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("code_verifier", verifier.as_str()),
        ("redirect_uri", CALLBACK),
    ];
    let used = signer.assertion(&didp, &id);
    let (status, tokens) = ask(&didp, "/token", &used, &form).await;
    assert_eq!(status, 200, "{tokens}");
    let refresh = text(&tokens["refresh_token"]);
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    let (status, answer) = ask(&didp, "/token", &used, &form).await;
    assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")), "jti once");

    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims(&didp, &id, &secret::random_token::<16>());
        change(&mut claims);
        signer.sign(&claims)
    };
    for (bad, why) in [
        (with(&|c| c["aud"] = json!("http://didp.test/token")), "aud is the issuer alone"),
        (with(&|c| c["aud"] = json!([ISSUER, "https://other.example"])), "aud is the issuer alone"),
        (with(&|c| c["exp"] = json!(didp.clock.now() + 86_400)), "exp is short"),
        (with(&|c| c["exp"] = json!(didp.clock.now() - 60)), "expired"),
        (with(&|c| c["sub"] = json!("another")), "iss and sub are the client"),
        (Signer::new().assertion(&didp, &id), "another key"),
        ("no.jwt".into(), "no JWT"),
    ] {
        let (status, answer) = ask(&didp, "/token", &bad, &form).await;
        assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")), "{why}");
        didp.clock.advance(30);
    }
    let good = signer.assertion(&didp, &id);
    let both = didp.http.post(didp.url("/token")).basic_auth(&id, Some("x"));
    let form_with = [form[0], form[1], ("client_assertion_type", TYPE), ("client_assertion", good.as_str())];
    let both: Value = both.form(&form_with).send().await.unwrap().json().await.unwrap();
    assert_eq!(both["error"], "invalid_request", "one method a request");
    assert_eq!(
        didp.form("/token", None, &[form[0], form[1], ("client_id", &id)]).await.0,
        401,
        "checklist 12"
    );
    assert_eq!(ask(&didp, "/token", &good, &form).await.0, 200);
    let token = [("token", refresh.as_str())];
    assert_eq!(ask(&didp, "/revoke", &signer.assertion(&didp, &id), &token).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn checklist_20_of_many_at_once_with_one_jti_one_comes_in() {
    let didp = Didp::start().await;
    let signer = Signer::new();
    let (_, answer) = register(&didp, &signer.jwks()).await;
    let assertion = signer.assertion(&didp, &text(&answer["client_id"]));
    let tries = (0..12).map(|_| ask(&didp, "/revoke", &assertion, &[("token", "unknown")]));
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1, "{answers:?}");
}

#[tokio::test]
async fn keys_are_registered_with_the_method_and_checked() {
    let didp = Didp::start().await;
    let private = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"}]});
    for jwks in [Value::Null, json!({}), json!({"keys": []}), private] {
        let (status, answer) = register(&didp, &jwks).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_client_metadata")), "{jwks}");
    }
    let with_uri = json!({"client_name": "App", "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example/keys"});
    assert_eq!(didp.json("/register", Some(DEVELOPER), &with_uri).await.0, 400, "keys are never fetched");
    let mut device = crate::harness::device_metadata("code");
    device["token_endpoint_auth_method"] = json!("private_key_jwt");
    device["jwks"] = Signer::new().jwks();
    assert_eq!(didp.json("/register", Some(crate::harness::MANUFACTURER), &device).await.0, 400);
}

#[tokio::test]
async fn checklist_17_a_gateway_may_prove_itself_by_assertions_alone() {
    let signer = Signer::new();
    let gateway = r#"
        [[gateway]]
        client_id = "keyed"
        jwks_file = "keyed.jwks"
        resource = "http://keyed.test"
        host = "keyed.test"
        port = 8883"#;
    let jwks = signer.jwks().to_string();
    let didp = Didp::start_with_files(&[("keyed.jwks", &jwks)], "", gateway).await;
    let token = [("token", "unknown")];
    let introspect = async |assertion: &str| ask(&didp, "/introspect", assertion, &token).await;
    let used = signer.assertion(&didp, "keyed");
    assert_eq!(introspect(&used).await, (200, json!({"active": false})));
    assert_eq!(introspect(&used).await.0, 401, "jti once");
    assert_eq!(introspect(&Signer::new().assertion(&didp, "keyed")).await.0, 401);
    assert_eq!(
        introspect(&signer.assertion(&didp, OTHER_GATEWAY.0)).await.0,
        401,
        "that gateway has no keys"
    );
    assert_eq!(didp.form("/introspect", Some(("keyed", "")), &token).await.0, 401, "and this one no secret");
    assert_eq!(
        ask(&didp, "/introspect/grants", &signer.assertion(&didp, "keyed"), &[("sub", "x")]).await.0,
        200
    );
    let stream = didp.http.post(didp.url("/introspect/events"));
    let assertion = signer.assertion(&didp, "keyed");
    let form = [("client_assertion_type", TYPE), ("client_assertion", assertion.as_str())];
    let mut stream = stream.form(&form).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let first = stream.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("\"kind\":\"head\""));
}

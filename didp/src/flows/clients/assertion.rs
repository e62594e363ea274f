//! `private_key_jwt`: a client proves itself by a JWT that it signed (RFC 7523 §3, OpenID Connect Core §9). Pure: keys, time and
//! issuer are parameters. That an assertion is used once is for the caller to see to.

use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey as _, JsonWebKeyAlgorithm};
use serde::Deserialize;
use serde_json::Value;
use service::secret;

/// The `client_assertion_type` of RFC 7523 §2.2.
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Algorithms that are accepted, as metadata names them.
pub const ALGORITHMS: [&str; 4] = ["ES256", "EdDSA", "PS256", "RS256"];

/// The longest that an assertion may still be valid, in seconds. Until it ends, its `jti` has to be remembered.
pub const LONGEST: i64 = 300;

/// How far the client's clock may be from ours, in seconds.
pub const SKEW: i64 = 30;

/// Longest assertion: four times a generous one with an RSA signature of 4096 bits.
const MAX: usize = 8 * 1024;

/// Keys that one client may have at once, so that it can change them.
const KEYS: usize = 8;

/// An assertion that was read, but not verified.
pub struct Assertion<'a> {
    algorithm: CoreJwsSigningAlgorithm,
    kid: Option<String>,
    claims: Claims,
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// What a verified assertion is remembered by.
#[derive(Debug, PartialEq, Eq)]
pub struct Once {
    /// Unique for the client.
    pub jti: String,
    /// Until when it could be used again, Unix seconds.
    pub until: i64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
    #[serde(default)]
    b64: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
    jti: String,
}

impl<'a> Assertion<'a> {
    /// Reads a compact JWS (RFC 7515 §7.1); nothing of it is believed yet.
    ///
    /// # Errors
    /// What is wrong with its form.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > MAX {
            return Err("assertion too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("not a JWT")?;
        let (header, claims) =
            signed.split_once('.').filter(|(_, claims)| !claims.contains('.')).ok_or("not a JWT")?;
        let header: Header = json(header).ok_or("header of the assertion cannot be read")?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err("header of the assertion has members that are not supported");
        }
        let algorithm = match header.alg.as_str() {
            "ES256" => CoreJwsSigningAlgorithm::EcdsaP256Sha256,
            "EdDSA" => CoreJwsSigningAlgorithm::EdDsa,
            "PS256" => CoreJwsSigningAlgorithm::RsaSsaPssSha256,
            "RS256" => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
            _ => return Err("algorithm of the assertion is not accepted"),
        };
        let claims: Claims = json(claims).ok_or("claims of the assertion cannot be read")?;
        if claims.iss != claims.sub {
            return Err("iss and sub of an assertion are both the client_id");
        }
        if claims.jti.is_empty() || claims.jti.len() > 255 {
            return Err("jti must have 1 to 255 characters");
        }
        let signature = secret::decode(signature).ok_or("signature is no base64url")?;
        Ok(Self { algorithm, kid: header.kid, claims, signed: signed.as_bytes(), signature })
    }

    /// Whom it claims to come from.
    pub fn client_id(&self) -> &str {
        &self.claims.iss
    }

    /// Verifies it for the authorization server `issuer`, which must be its only audience: an endpoint's URL or a list would let
    /// another server that the client trusts use it here.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(&self, keys: &[CoreJsonWebKey], issuer: &str, now: i64) -> Result<Once, &'static str> {
        let audience = match &self.claims.aud {
            Value::Array(list) if list.len() == 1 => list[0].as_str(),
            one => one.as_str(),
        };
        if audience != Some(issuer) {
            return Err("aud of the assertion is not the issuer alone");
        }
        let ahead = |time: Option<f64>| time.is_some_and(|time| time > (now + SKEW) as f64);
        if ahead(self.claims.nbf) || ahead(self.claims.iat) {
            return Err("assertion from the future");
        }
        let exp = self.claims.exp;
        if exp <= (now - SKEW) as f64 {
            return Err("assertion expired");
        }
        if exp > (now + LONGEST + SKEW) as f64 {
            return Err("assertion lives too long");
        }
        let fits = |key: &&CoreJsonWebKey| {
            let named =
                self.kid.as_deref().is_none_or(|kid| key.key_id().is_some_and(|id| id.as_str() == kid));
            let usable = match key.signing_alg() {
                JsonWebKeyAlgorithm::Algorithm(algorithm) => *algorithm == self.algorithm,
                JsonWebKeyAlgorithm::Unspecified => true,
                JsonWebKeyAlgorithm::Unsupported => false,
            };
            named && usable
        };
        let signed_by = |key: &CoreJsonWebKey| {
            key.verify_signature(&self.algorithm, self.signed, &self.signature).is_ok()
        };
        if !keys.iter().filter(fits).any(signed_by) {
            return Err("assertion is not signed by a key of the client");
        }
        Ok(Once { jti: self.claims.jti.clone(), until: exp as i64 + SKEW + 1 })
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&secret::decode(part)?).ok()
}

/// Public keys of a JWK set (RFC 7517 §5), if all of them can be used here.
///
/// # Errors
/// What is wrong with the set, for whoever registers it.
pub fn keys(set: &Value) -> Result<Vec<CoreJsonWebKey>, &'static str> {
    let list = set.get("keys").and_then(Value::as_array).ok_or("jwks must be {\"keys\": [...]}")?;
    if list.is_empty() || list.len() > KEYS {
        return Err("jwks holds 1 to 8 keys");
    }
    list.iter().map(key).collect()
}

fn key(jwk: &Value) -> Result<CoreJsonWebKey, &'static str> {
    if ["d", "p", "q", "dp", "dq", "qi", "k", "oth"].iter().any(|private| jwk.get(private).is_some()) {
        return Err("jwks holds public keys only");
    }
    let bytes = |name| jwk.get(name).and_then(Value::as_str).and_then(secret::decode).unwrap_or_default();
    let known = match (jwk.get("kty").and_then(Value::as_str), jwk.get("crv").and_then(Value::as_str)) {
        (Some("EC"), Some("P-256")) => bytes("x").len() == 32 && bytes("y").len() == 32,
        (Some("OKP"), Some("Ed25519")) => bytes("x").len() == 32,
        // A longer key or exponent would make each verification dear.
        (Some("RSA"), None) => (256..=512).contains(&bytes("n").len()) && (1..=4).contains(&bytes("e").len()),
        _ => false,
    };
    if !known {
        return Err("keys are EC P-256, OKP Ed25519, or RSA of 2048 to 4096 bits");
    }
    serde_json::from_value(jwk.clone()).map_err(|_| "a key of jwks cannot be read")
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://didp.example";
    const NOW: i64 = 1_800_000_000;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
        }

        fn jwk(&self) -> Value {
            let point = self.0.public_key().as_ref();
            let (x, y) = (secret::encode(&point[1..33]), secret::encode(&point[33..]));
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "one", "use": "sig"})
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| secret::encode(value.to_string());
            let signed = format!("{}.{}", part(header), part(claims));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", secret::encode(signature))
        }
    }

    fn claims() -> Value {
        json!({"iss": "app", "sub": "app", "aud": ISSUER, "exp": NOW + 60, "iat": NOW, "jti": "1"})
    }

    fn judge(signer: &Signer, header: &Value, claims: &Value) -> Result<Once, &'static str> {
        let keys = keys(&json!({"keys": [signer.jwk()]})).unwrap();
        Assertion::parse(&signer.sign(header, claims))?.verify(&keys, ISSUER, NOW)
    }

    #[test]
    fn checklist_20_aud_is_the_issuer_alone_exp_is_short_and_the_signature_is_the_clients() {
        let signer = Signer::new();
        let header = json!({"alg": "ES256", "kid": "one"});
        let good = judge(&signer, &header, &claims());
        assert_eq!(good, Ok(Once { jti: "1".into(), until: NOW + 60 + SKEW + 1 }));
        let changed = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            judge(&signer, &header, &claims)
        };
        assert!(changed("aud", json!([ISSUER])).is_ok());
        for (name, value) in [
            ("aud", json!("https://didp.example/token")),
            ("aud", json!([ISSUER, "https://other.example"])),
            ("aud", json!([])),
            ("aud", json!("https://other.example")),
            ("exp", json!(NOW - 31)),
            ("exp", json!(NOW + 3_600)),
            ("exp", json!(1e300)),
            ("exp", json!("soon")),
            ("iat", json!(NOW + 31)),
            ("nbf", json!(NOW + 31)),
            ("iss", json!("another")),
            ("sub", json!("another")),
            ("jti", json!("")),
            ("jti", Value::Null),
        ] {
            assert!(changed(name, value.clone()).is_err(), "{name} = {value}");
        }
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS256"}),
            json!({"alg": "ES384"}),
            json!({"alg": "EdDSA"}),
            json!({"alg": "ES256", "kid": "two"}),
            json!({"alg": "ES256", "crit": ["exp"]}),
            json!({"alg": "ES256", "b64": false}),
        ] {
            assert!(judge(&signer, &header, &claims()).is_err(), "{header}");
        }
        let foreign = Signer::new().sign(&header, &claims());
        let own = keys(&json!({"keys": [signer.jwk()]})).unwrap();
        assert!(Assertion::parse(&foreign).unwrap().verify(&own, ISSUER, NOW).is_err());
        let unsigned = signer.sign(&header, &claims());
        let unsigned = &unsigned[..=unsigned.rfind('.').unwrap()];
        assert!(Assertion::parse(unsigned).unwrap().verify(&own, ISSUER, NOW).is_err());
    }

    #[test]
    fn eddsa_is_accepted_too() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": secret::encode(pair.public_key())});
        let signed = format!(
            "{}.{}",
            secret::encode(json!({"alg": "EdDSA"}).to_string()),
            secret::encode(claims().to_string())
        );
        let text = format!("{signed}.{}", secret::encode(pair.sign(signed.as_bytes())));
        let keys = keys(&json!({"keys": [jwk]})).unwrap();
        assert!(Assertion::parse(&text).unwrap().verify(&keys, ISSUER, NOW).is_ok());
    }

    #[test]
    fn key_sets_hold_public_keys_of_known_kinds() {
        let good = Signer::new().jwk();
        let with = |name: &str, value: Value| {
            let mut jwk = good.clone();
            jwk[name] = value;
            keys(&json!({"keys": [jwk]}))
        };
        assert!(with("kid", json!("x")).is_ok());
        for (name, value) in
            [("d", json!("AAAA")), ("kty", json!("oct")), ("crv", json!("P-521")), ("x", json!(1))]
        {
            assert!(with(name, value).is_err(), "{name}");
        }
        let short = json!({"kty": "RSA", "n": secret::encode([0xff; 128]), "e": "AQAB"});
        for set in [
            json!({}),
            json!([]),
            json!({"keys": []}),
            json!({"keys": vec![good; 9]}),
            json!({"keys": [short]}),
        ] {
            assert!(keys(&set).is_err(), "{set}");
        }
    }

    #[test]
    fn what_is_no_jwt_is_refused() {
        for text in ["", ".", "..", "a.b.c", "a.b.c.d", "e30.e30.", &"x".repeat(9_000)] {
            assert!(Assertion::parse(text).is_err(), "{text:.20}");
        }
    }
}

//! What a client may register here: its metadata as [`oauth_wire`] judges it, and what depends on who registers it.

use oauth_wire::OAuthErrorCode;

use crate::config::AppRegistration;
use crate::flows::clients::assertion;
use crate::flows::{Refusal, refuse};
use crate::state::{App, RegistrarToken};

pub use oauth_wire::{Confirm, DeviceMetadata, Metadata};

/// Most bytes of metadata for an app that registers without a token.
const UNVERIFIED: usize = 4_096;

/// The metadata with its defaults, if it may be registered.
pub(super) fn checked(
    app: &App,
    registrar: Option<&RegistrarToken>,
    mut metadata: Metadata,
) -> Result<Metadata, Refusal> {
    const BAD: OAuthErrorCode = OAuthErrorCode::InvalidClientMetadata;
    let device = metadata.device.is_some();
    match registrar {
        Some(registrar) if registrar.devices != device => {
            return refuse(
                OAuthErrorCode::AccessDenied,
                "this initial access token is for another kind of client",
            );
        }
        None if device || app.config.app_registration == AppRegistration::Token => {
            return refuse(OAuthErrorCode::InvalidToken, "an initial access token is needed");
        }
        _ => {}
    }
    metadata.check(app.config.allow_http_redirect).map_err(|(code, why)| Refusal::OAuth(code, why))?;
    if let Some(jwks) = &metadata.jwks {
        assertion::keys(jwks).map_err(|why| Refusal::OAuth(BAD, why))?;
    }
    if registrar.is_none() && serde_json::json!(metadata).to_string().len() > UNVERIFIED {
        return refuse(BAD, "without an initial access token, metadata has 4096 bytes at most");
    }
    Ok(metadata)
}

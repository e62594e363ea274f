//! A sample third-party app: OAuth2 code flow with PKCE, then MQTT over WebSocket in the browser.

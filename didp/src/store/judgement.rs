//! Everything that the judgement of an access token needs, in one statement: it is all of one moment, and costs one round trip.

use super::Conn;
use super::grants::{Chosen, Grant, GrantedDevice};
use super::sql::{from_row, query_as};

/// An access token with what it stands for.
pub struct Judged {
    /// `fresh`, `current` or `dead`.
    pub state: String,
    /// End of the access token, Unix seconds.
    pub access_expires: Option<i64>,
    /// Its grant.
    pub grant: Grant,
    /// The client may not log in.
    pub disabled: bool,
    /// The owner's pseudonym at the grant's gateway, the share of the PCM's key, the last event's number.
    pub pseudonym: Option<(String, Vec<u8>, i64)>,
    /// The devices of the grant, as [`super::grants::devices`] lists them.
    pub devices: Vec<GrantedDevice>,
}

struct Row {
    grant: Grant,
    token_state: String,
    access_expires: Option<i64>,
    disabled: bool,
    sub: Option<String>,
    state_share: Option<Vec<u8>>,
    rev: Option<i64>,
    device: Option<String>,
    ownership: Option<String>,
    reference: Option<String>,
    chosen: Chosen,
    label: Option<String>,
    name: Option<String>,
    model: Option<String>,
    device_channels: Option<String>,
}

from_row!(Row { token_state, access_expires, disabled, sub, state_share, rev, device, ownership, reference, label, name, model, device_channels; grant, chosen });

impl Row {
    fn device(&mut self) -> Option<GrantedDevice> {
        Some(GrantedDevice {
            device: self.device.take()?,
            ownership: self.ownership.take()?,
            reference: self.reference.take()?,
            chosen: std::mem::take(&mut self.chosen),
            label: self.label.take()?,
            name: self.name.take(),
            model: self.model.take()?,
            channels: self.device_channels.take()?,
        })
    }
}

/// The access token of this hash.
pub async fn judge(conn: &mut Conn, access: &[u8]) -> sqlx::Result<Option<Judged>> {
    let rows: Vec<Row> = query_as(
        "SELECT g.*, t.state AS token_state, t.access_expires, c.disabled, p.sub, p.state_share, p.rev,
             gd.device, o.id AS ownership, gd.reference, gd.channels AS chosen, gd.commands, gd.views, o.label, o.name, dc.name AS model,
             d.channels AS device_channels
         FROM tokens t JOIN grants g ON g.id = t.grant_id JOIN clients c ON c.client_id = g.client_id
         LEFT JOIN pseudonyms p ON p.user_id = g.user_id AND p.gateway = g.gateway
         LEFT JOIN grant_devices gd ON gd.grant_id = g.id
         LEFT JOIN ownerships o ON o.device = gd.device AND o.user_id = g.user_id
             AND (o.state <> 'pending' OR g.kind = 'device')
         LEFT JOIN clients dc ON dc.client_id = gd.device LEFT JOIN devices d ON d.client_id = gd.device
         WHERE t.access = $1 ORDER BY o.since, o.label",
    )
    .bind(access)
    .fetch_all(conn)
    .await?;
    let mut rows = rows.into_iter();
    let Some(mut first) = rows.next() else { return Ok(None) };
    let devices = first.device().into_iter().chain(rows.filter_map(|mut row| row.device())).collect();
    let pseudonym = match (first.sub, first.state_share, first.rev) {
        (Some(sub), Some(share), Some(rev)) => Some((sub, share, rev)),
        _ => None,
    };
    Ok(Some(Judged {
        state: first.token_state,
        access_expires: first.access_expires,
        grant: first.grant,
        disabled: first.disabled,
        pseudonym,
        devices,
    }))
}

//! A second login beside the first one: linked while logged in, in the same browser; checklist 26, 28.

use http::StatusCode;

use super::site::{Browser, Page, Site};

/// Where the page's link to do this with the provider leads.
fn link(page: &Page, word: &str) -> String {
    let start = format!("href=\"/login/demo?{word}=");
    let rest = page.body.split(&start).nth(1).unwrap_or_else(|| panic!("no {word} in {}", page.body));
    format!("/login/demo?{word}={}", rest.split('"').next().unwrap())
}

/// Follows a link to the provider, which says who this is; where that leads.
async fn follow(site: &Site, browser: &mut Browser<'_>, link: &str) -> String {
    let asked = browser.get(link).await;
    let (code, state) = site.provider.grant(&asked.location().parse().unwrap());
    let iss: String = url::form_urlencoded::byte_serialize(site.provider.issuer().as_bytes()).collect();
    format!("/login/demo/callback?code={code}&state={state}&iss={iss}")
}

#[tokio::test]
async fn checklist_28_a_second_login_is_added_and_taken_away_while_logged_in() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    site.claim(&mut browser, "Kitchen").await;
    let page = browser.get("/account/logins").await;
    page.says(StatusCode::OK, "in one way");
    assert!(!page.body.contains("unlink="), "the only one stays");
    site.provider.lie("sub", "bob".into());
    let callback = follow(&site, &mut browser, &link(&page, "link")).await;
    assert_eq!(browser.get(&callback).await.location(), "/account/logins?linked");
    browser.get("/account/logins?linked").await.says(StatusCode::OK, "in 2 ways");
    let mut elsewhere = site.owner().await;
    elsewhere.get("/account").await.says(StatusCode::OK, "Kitchen");
    browser.get("/account/activity").await.says(StatusCode::OK, "You can log in with Demo Login as well");

    let page = browser.get("/account/logins").await;
    let callback = follow(&site, &mut browser, &link(&page, "link")).await;
    assert_eq!(browser.get(&callback).await.location(), "/account/logins?as-it-was");
    let callback = follow(&site, &mut browser, &link(&page, "unlink")).await;
    assert_eq!(browser.get(&callback).await.location(), "/account/logins?unlinked");
    let mut bob = site.owner().await;
    assert!(!bob.get("/account").await.body.contains("Kitchen"), "who comes that way is somebody else now");
    let page = browser.get("/account/logins").await;
    let callback = follow(&site, &mut browser, &link(&page, "link")).await;
    assert_eq!(browser.get(&callback).await.location(), "/account/logins?anothers");
}

#[tokio::test]
async fn checklist_26_nobody_is_made_to_link_anothers_login() {
    let site = Site::start().await;
    let (mut anna, mut ben) = (site.owner().await, site.browser());
    site.provider.lie("sub", "ben".into());
    ben.log_in("/account").await;
    let of_anna = link(&anna.get("/account/logins").await, "link");
    assert_eq!(ben.get(&of_anna).await.status, StatusCode::FORBIDDEN, "a link of another session");
    assert_eq!(site.browser().get(&of_anna).await.status, StatusCode::FORBIDDEN, "of nobody's");
    site.provider.lie("sub", "carol".into());
    let callback = follow(&site, &mut anna, &of_anna).await;
    let page = anna.get("/account").await;
    let csrf = page.hidden("csrf");
    anna.post_raw("/logout", &[("csrf", &csrf)], &[]).await;
    assert_eq!(anna.get(&callback).await.status, StatusCode::FORBIDDEN, "nobody is logged in any more");
    let mut carol = site.browser();
    carol.log_in("/account").await;
    carol.get("/account/logins").await.says(StatusCode::OK, "in one way");
}

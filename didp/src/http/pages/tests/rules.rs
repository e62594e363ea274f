//! Every page, as [`super::samples`] fills it, keeps to the rules: one heading, labels, nothing inline, nothing from elsewhere, no
//! words of its own. With `DIDP_PAGES_DIR` set, the pages are written there, to be looked at.

use super::samples::{consent, offered, pages, pages_in};
use crate::http::pages::language::ALL;
use crate::http::pages::words::GERMAN;

#[test]
fn every_page_keeps_to_the_rules_of_its_policy() {
    for (name, page) in pages() {
        for forbidden in
            ["style=\"", " onclick", "<style", "javascript:", "src=\"http", "href=\"http", "{{", "{%"]
        {
            assert!(!page.contains(forbidden), "{name} holds {forbidden}");
        }
        assert!(!page.contains("<script>"), "{name} holds an inline script");
        assert_eq!(page.matches("<h1").count(), 1, "{name} has one heading");
        assert!(page.contains("<html lang=\"en\">") && page.contains("name=\"viewport\""), "{name}");
        for form in page.split("<form").skip(1) {
            assert!(form.contains("method=\"post\"") && form.contains("name=\"csrf\""), "{name}: {form}");
        }
    }
}

#[test]
fn every_field_that_a_person_fills_has_a_label() {
    for (name, page) in pages() {
        for part in page.split("<input").skip(1) {
            let tag = part.split('>').next().unwrap();
            if tag.contains("type=\"hidden\"") || tag.contains("type=\"checkbox\"") {
                continue;
            }
            let id = tag.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            assert!(page.contains(&format!("for=\"{id}\"")), "{name}: {id}");
        }
        for part in page.split("<select").skip(1) {
            let tag = part.split('>').next().unwrap();
            let id = tag.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            assert_eq!(page.matches(&format!("for=\"{id}\"")).count(), 1, "{name}: {id}");
            assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{name}: {id}");
            let options = part.split("</select>").next().unwrap();
            assert_eq!(options.matches(" selected").count(), 1, "{name}: {options}");
        }
        assert_eq!(
            page.matches("type=\"checkbox\"").count(),
            page.matches("<label class=\"check").count(),
            "{name}: each check box stands in its label"
        );
    }
}

/// Checklist 32: declining is as prominent as accepting: the same element of the same class, side by side.
#[test]
fn declining_is_as_prominent_as_accepting() {
    for (page, accept) in [("decide", "claim"), ("consent", "allow")] {
        let (_, text) = pages().into_iter().find(|(name, _)| *name == page).unwrap();
        for value in [accept, "decline"] {
            assert!(
                text.contains(&format!("<button name=\"decision\" value=\"{value}\">")),
                "{page}: {value}"
            );
        }
    }
}

#[test]
fn what_comes_from_outside_is_escaped() {
    let w = ALL[0];
    let page = consent(w, true, vec![offered(w, "a", "<b>Kitchen</b>", true)], None);
    assert!(!page.contains("<b>") && page.contains("&#60;b&#62;Kitchen"));
    assert!(page.contains("state=&#34;&#62;&#60;script&#62;"));
}

#[test]
fn pages_can_be_looked_at() {
    let Some(folder) = std::env::var_os("DIDP_PAGES_DIR").map(std::path::PathBuf::from) else { return };
    std::fs::create_dir_all(folder.join("assets")).unwrap();
    let assets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    for entry in std::fs::read_dir(assets).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join("assets").join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(folder.join("policy.txt"), crate::http::pages::POLICY).unwrap();
    for w in ALL {
        for (name, page) in pages_in(w) {
            std::fs::write(folder.join(format!("{name}.{}.html", w.lang)), page).unwrap();
        }
    }
}

/// What stands in a template between tags and outside of expressions, or in an attribute that is read out, is for people.
#[test]
fn templates_hold_no_words_of_their_own() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut looked_at = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let words = bare_words(&text);
        assert!(words.is_empty(), "{}: {words:?}", path.display());
        looked_at += 1;
    }
    assert!(looked_at > 20);
    assert_eq!(bare_words("<p title=\"{{ w.x }}\">{% if a %}Hello{% endif %} {{ w.y }}</p>"), ["Hello"]);
    assert_eq!(bare_words("<p aria-label=\"For {{ x }}\">–</p>"), ["For"]);
}

/// The texts of a template that no catalogue holds.
fn bare_words(template: &str) -> Vec<String> {
    // A class name.
    let mut rest = template.replace("{% block width %}broad{% endblock %}", "");
    for (open, close) in [("{#", "#}"), ("{%", "%}"), ("{{", "}}")] {
        while let Some(start) = rest.find(open) {
            let end = start + rest[start..].find(close).unwrap() + close.len();
            rest.replace_range(start..end, "\u{0}");
        }
    }
    let mut found = Vec::new();
    let mut keep = |text: &str| {
        let text = text.replace('\u{0}', "");
        let text = text.trim();
        if text.chars().any(char::is_alphabetic) {
            found.push(text.to_owned());
        }
    };
    let mut parts = rest.split('<');
    keep(parts.next().unwrap_or_default());
    for part in parts {
        let (tag, text) = part.split_once('>').unwrap_or((part, ""));
        keep(text.trim_matches('\n'));
        for attribute in ["aria-label", "title", "alt", "placeholder"] {
            if let Some(value) = tag.split(&format!(" {attribute}=\"")).nth(1) {
                keep(value.split('"').next().unwrap_or_default());
            }
        }
    }
    found
}

#[test]
fn a_page_in_another_language_has_no_english_sentence() {
    let english = pages_in(ALL[0]);
    let w = &GERMAN;
    for ((name, page), (_, original)) in pages_in(w).into_iter().zip(english) {
        assert!(page.contains("<html lang=\"de\">"), "{name}");
        for sentence in ["Your devices and apps", "Save", "Withdraw", "Log out", "Release it", "Keep it"] {
            assert!(!page.contains(&format!(">{sentence}<")), "{name}: {sentence}");
        }
        assert_eq!(page.matches("<form").count(), original.matches("<form").count(), "{name}");
    }
}

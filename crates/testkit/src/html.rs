//! Just enough of HTML to read our own pages: tags, attributes, forms, links, visible text.
//!
//! Pages that browsers would have to repair are not understood, which is as well: ours should not need it.

/// A form as the page offers it.
#[derive(Debug, Clone, Default)]
pub struct Form {
    /// Where it goes; empty for the page's own address.
    pub action: String,
    /// `get` or `post`.
    pub method: String,
    /// Its fields and buttons, in the order of the page.
    pub controls: Vec<Control>,
}

impl Form {
    /// Whether a field or button has that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.controls.iter().any(|control| control.name == name)
    }
}

/// A field or button of a form.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// What it is sent as.
    pub name: String,
    /// What it is sent with at the moment.
    pub value: String,
    /// The `type` of an input or button, `select` or `textarea`.
    pub kind: String,
    /// Whether a box or radio button is ticked.
    pub on: bool,
    /// What a list offers.
    pub options: Vec<String>,
    /// What a reader sees on a button, or after a box up to the end of its label.
    pub label: String,
    disabled: bool,
}

impl Control {
    /// Whether pressing it sends the form.
    #[must_use]
    pub fn is_button(&self) -> bool {
        self.kind == "submit" && !self.disabled
    }

    /// Whether it is sent when some button of the form was pressed.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        let ticked = !matches!(self.kind.as_str(), "checkbox" | "radio") || self.on;
        ticked
            && !self.disabled
            && !self.name.is_empty()
            && !matches!(self.kind.as_str(), "submit" | "button" | "reset")
    }
}

/// All forms of a page.
#[must_use]
pub fn forms(html: &str) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    let mut open = None;
    // Where the options of the list that is open right now belong.
    let mut list: Option<(usize, usize)> = None;
    // Whose label is being read.
    let mut named: Option<(usize, usize)> = None;
    for piece in Pieces(html) {
        let tag = match piece {
            Piece::Tag(tag) => tag,
            Piece::Text(text) => {
                if let Some((form, control)) = named {
                    append(&mut forms[form].controls[control].label, text);
                }
                continue;
            }
        };
        match tag.name.as_str() {
            "/label" | "/button" => named = None,
            "form" => {
                let method = tag.get("method").unwrap_or("get").to_ascii_lowercase();
                ids.push(tag.get("id").unwrap_or_default().to_owned());
                forms.push(Form {
                    action: tag.get("action").unwrap_or_default().to_owned(),
                    method,
                    controls: vec![],
                });
                open = Some(forms.len() - 1);
            }
            "/form" => open = None,
            "/select" => list = None,
            "option" => {
                let Some((form, control)) = list else { continue };
                let control = &mut forms[form].controls[control];
                let value = tag.get("value").unwrap_or_default().to_owned();
                if tag.has("selected") || control.options.is_empty() {
                    control.value.clone_from(&value);
                }
                control.options.push(value);
            }
            "input" | "button" | "select" | "textarea" => {
                let elsewhere = tag.get("form").and_then(|id| ids.iter().position(|known| known == id));
                let Some(form) = elsewhere.or(open) else { continue };
                let usual = match tag.name.as_str() {
                    "input" => "text",
                    "button" => "submit",
                    other => other,
                };
                let boxed = matches!(tag.get("type"), Some("checkbox" | "radio"));
                forms[form].controls.push(Control {
                    name: tag.get("name").unwrap_or_default().to_owned(),
                    value: tag.get("value").unwrap_or(if boxed { "on" } else { "" }).to_owned(),
                    kind: tag.get("type").unwrap_or(usual).to_ascii_lowercase(),
                    on: tag.has("checked"),
                    options: Vec::new(),
                    label: String::new(),
                    disabled: tag.has("disabled"),
                });
                let this = (form, forms[form].controls.len() - 1);
                list = (tag.name == "select").then_some(this);
                named = (boxed || tag.name == "button").then_some(this);
            }
            _ => {}
        }
    }
    forms
}

/// A link of a page.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Where it leads.
    pub href: String,
    /// What a reader sees.
    pub text: String,
}

/// All links of a page.
#[must_use]
pub fn links(html: &str) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut open = false;
    for piece in Pieces(html) {
        match piece {
            Piece::Text(text) => {
                if let Some(link) = links.last_mut().filter(|_| open) {
                    append(&mut link.text, text);
                }
            }
            Piece::Tag(tag) if tag.name == "a" => {
                links
                    .push(Link { href: tag.get("href").unwrap_or_default().to_owned(), text: String::new() });
                open = true;
            }
            Piece::Tag(tag) => open = open && tag.name != "/a",
        }
    }
    links
}

/// Adds what a reader sees of `more` to `text`, one blank between words.
fn append(text: &mut String, more: &str) {
    for word in unescaped(more).split_whitespace() {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
}

/// What a reader sees, white space collapsed.
#[must_use]
pub fn text(html: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut glued = false;
    for piece in Pieces(html) {
        match piece {
            Piece::Tag(tag) => glued = glued && is_inline(tag.name.trim_start_matches('/')),
            Piece::Text(text) => {
                let text = unescaped(text);
                for (index, word) in text.split_whitespace().enumerate() {
                    let joins = index == 0 && glued && !text.starts_with(char::is_whitespace);
                    match words.last_mut().filter(|_| joins) {
                        Some(last) => last.push_str(word),
                        None => words.push(word.to_owned()),
                    }
                }
                glued = !text.ends_with(char::is_whitespace) && (glued || !text.trim().is_empty());
            }
        }
    }
    words.join(" ")
}

fn is_inline(tag: &str) -> bool {
    matches!(tag, "a" | "b" | "i" | "em" | "strong" | "span" | "code" | "small" | "abbr" | "time" | "mark")
}

enum Piece<'a> {
    Tag(Tag),
    Text(&'a str),
}

struct Tag {
    /// Lower case, with a slash before it if it closes.
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// Walks through a page; what is between `script` or `style` tags and comments is left out.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            if self.0.is_empty() {
                return None;
            }
            if let Some(comment) = self.0.strip_prefix("<!--") {
                self.0 = comment.find("-->").map_or("", |end| &comment[end + 3..]);
                continue;
            }
            let Some(inside) = self.0.strip_prefix('<') else {
                let end = self.0.find('<').unwrap_or(self.0.len());
                let (text, rest) = self.0.split_at(end);
                self.0 = rest;
                return Some(Piece::Text(text));
            };
            let (tag, rest) = tag(inside);
            self.0 = rest;
            if matches!(tag.name.as_str(), "script" | "style" | "title") {
                let end = format!("</{}", tag.name);
                self.0 = rest.find(&end).map_or("", |end| &rest[end..]);
            }
            return Some(Piece::Tag(tag));
        }
    }
}

/// Reads a tag whose `<` was taken already; gives what follows its `>`.
fn tag(text: &str) -> (Tag, &str) {
    let end = text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len());
    let mut tag =
        Tag { name: text[..end].trim_end_matches('/').to_ascii_lowercase(), attributes: Vec::new() };
    let mut rest = &text[end..];
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() {
            return (tag, rest);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (tag, after);
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=>/".contains(c)).unwrap_or(rest.len()).max(1);
        let name = rest[..end].to_ascii_lowercase();
        rest = &rest[end..];
        let Some(value) = rest.strip_prefix('=') else {
            tag.attributes.push((name, String::new()));
            continue;
        };
        let (value, after) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let inner = &value[1..];
                inner.split_once(quote).unwrap_or((inner, ""))
            }
            _ => value.split_at(value.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(value.len())),
        };
        tag.attributes.push((name, unescaped(value)));
        rest = after;
    }
}

/// Resolves the character references that templates write.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.bytes().take(12).position(|byte| byte == b';');
        let decoded = end.and_then(|end| reference(&rest[1..end]).map(|c| (c, end + 1)));
        let (c, length) = decoded.unwrap_or(('&', 1));
        out.push(c);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "hellip" => '…',
        "ndash" => '–',
        "mdash" => '—',
        "rsquo" => '’',
        _ => {
            let number = name.strip_prefix('#')?;
            let hex = number.strip_prefix(['x', 'X']);
            char::from_u32(hex.map_or_else(|| number.parse(), |hex| u32::from_str_radix(hex, 16)).ok()?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<!doctype html><title>T</title><style>p { color: red }</style>
        <h1>Living&#32;room</h1><p>It is <b>warm</b>, isn&#x27;t it?<!-- <form> --></p>
        <form method="POST" action="/claim?a=1&amp;b=2">
          <input type=hidden name=csrf value="a&quot;b">
          <input type=checkbox name=device value=one checked> <input type=checkbox name=device value=two>
          <input type=radio name=until value=day> <input type=radio name=until value=ever checked />
          <select name="hours"><option value="1">one</option><option value="2" selected>two</option></select>
          <button name=decision value=allow>Allow</button>
        </form>
        <form action="/search" id="s"><input name="q"></form><button form="s" name="go" value="1">Go</button>
        <a href="/r/abc">on</a><script>if (1 < 2) { document.write("<form>") }</script>"#;

    #[test]
    fn forms_have_what_would_be_sent() {
        let forms = forms(PAGE);
        assert_eq!(forms.len(), 2);
        assert_eq!((forms[0].method.as_str(), forms[0].action.as_str()), ("post", "/claim?a=1&b=2"));
        let sent: Vec<_> = forms[0]
            .controls
            .iter()
            .filter(|c| c.is_sent())
            .map(|c| (c.name.as_str(), c.value.as_str()))
            .collect();
        assert_eq!(sent, [("csrf", "a\"b"), ("device", "one"), ("until", "ever"), ("hours", "2")]);
        assert!(
            forms[0].controls.iter().any(|c| c.is_button() && c.name == "decision" && c.value == "allow")
        );
        assert_eq!(forms[0].controls.last().map(|c| c.label.as_str()), Some("Allow"));
        assert_eq!(forms[1].method, "get");
        assert!(forms[1].has("go"), "a button may stand outside its form");
    }

    #[test]
    fn text_is_what_a_reader_sees() {
        assert_eq!(text(PAGE), "Living room It is warm, isn't it? one two Allow Go on");
        let links: Vec<_> = links(PAGE).into_iter().map(|link| (link.href, link.text)).collect();
        assert_eq!(links, [("/r/abc".to_owned(), "on".to_owned())]);
    }

    #[test]
    fn broken_markup_ends_instead_of_hanging_or_panicking() {
        for cut in 0..PAGE.len() {
            if PAGE.is_char_boundary(cut) {
                let _ = (forms(&PAGE[..cut]), text(&PAGE[..cut]), links(&PAGE[..cut]));
            }
        }
    }
}

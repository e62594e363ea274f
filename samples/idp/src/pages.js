/** The HTML of the two login pages. Everything that did not come from this program is escaped. */

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text) => String(text).replace(/[&<>"']/g, (character) => escapes[character]);

const page = (title, theme, content) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escape(title)}</title>
<link rel="stylesheet" href="/style.css">
</head>
<body class="${theme}">
<main>
${content}
</main>
</body>
</html>
`;

/**
 * @param {{theme: 'openid' | 'github', provider: string, client: string, action: string,
 *   people: Iterable<{key: string, name: string, email: string}>}} options
 */
export function loginPage({ theme, provider, client, action, people }) {
  const buttons = [...people]
    .map(
      (person) => `<li><button name="person" value="${escape(person.key)}">
<img src="/picture/${escape(person.key)}.svg" alt="" width="44" height="44">
<span><strong>${escape(person.name)}</strong><small>${escape(person.email)}</small></span>
</button></li>`,
    )
    .join('\n');
  return page(
    `Log in · ${provider}`,
    theme,
    `<p class="brand">${escape(provider)}</p>
<h1>Who are you?</h1>
<p>Log in to continue to <strong>${escape(client)}</strong>.</p>
<form method="post" action="${escape(action)}">
<ul class="people">
${buttons}
</ul>
<button class="cancel" name="person" value="cancel">Cancel</button>
</form>
<p class="note">A login for demonstrations: these people are invented, and no password is asked.</p>`,
  );
}

/** A page that only tells. */
export function messagePage(title, text) {
  return page(title, 'openid', `<h1>${escape(title)}</h1>\n<p>${escape(text)}</p>`);
}

const hues = { alice: 262, bob: 205, carol: 330, dan: 150 };

/** A round picture with the person's initial, or undefined. */
export function picture(key) {
  if (!Object.hasOwn(hues, key)) return undefined;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 44 44"><circle cx="22" cy="22" r="22" fill="hsl(${hues[key]} 45% 42%)"/>
<text x="22" y="29" font-family="system-ui, sans-serif" font-size="20" font-weight="600" text-anchor="middle" fill="#fff">${key[0].toUpperCase()}</text></svg>`;
}

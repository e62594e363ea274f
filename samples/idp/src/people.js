/**
 * The four demo people: two at the OpenID provider, two at the GitHub-style server. They have names, e-mail addresses and
 * pictures so that whoever logs them in has something to throw away.
 */

/** People of the OpenID provider, by their subject. */
export const openidPeople = new Map(
  [
    { id: 'alice-7d1f', key: 'alice', name: 'Alice Arden', given_name: 'Alice', family_name: 'Arden', email: 'alice@example.org' },
    { id: 'bob-52c8', key: 'bob', name: 'Bob Brook', given_name: 'Bob', family_name: 'Brook', email: 'bob@example.org' },
  ].map((person) => [person.id, person]),
);

/** People of the GitHub-style server, by their numeric id. */
export const githubPeople = new Map(
  [
    { id: 910_001, key: 'carol', login: 'carol', name: 'Carol Clay', email: 'carol@example.net' },
    { id: 910_002, key: 'dan', login: 'dan', name: 'Dan Dale', email: 'dan@example.net' },
  ].map((person) => [person.id, person]),
);

/** The person whom a form calls `key` ("alice"), or undefined. */
export function personByKey(people, key) {
  return [...people.values()].find((person) => person.key === key);
}

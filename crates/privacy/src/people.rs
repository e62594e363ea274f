//! The owners, with names that nothing else in the world is called by.

use service::secret::random_token;

/// A person at the demonstration's provider.
#[derive(Clone, Debug)]
pub struct Person {
    /// Which owner.
    pub owner: u8,
    /// Which of the DIdP's upstreams they log in with.
    pub upstream: &'static str,
    /// What the provider's page calls them.
    pub key: String,
    /// Subject at the provider.
    pub subject: String,
    /// First and last name.
    pub names: [String; 2],
    /// E-mail address.
    pub email: String,
}

impl Person {
    /// Somebody new at that upstream.
    #[must_use]
    pub fn new(owner: u8, upstream: &'static str) -> Self {
        let mark = || random_token::<9>().replace(['-', '_'], "x").to_lowercase();
        // GitHub's subjects are numbers.
        let number = 1_000_000_000_000_u64 + u64::from(rand::random::<u32>()) * 7;
        let subject = if upstream == "github" { number.to_string() } else { format!("subject-{}", mark()) };
        Self {
            owner,
            upstream,
            key: format!("person{}", mark()),
            subject,
            names: [format!("First{}", mark()), format!("Last{}", mark())],
            email: format!("{}@{}.example", mark(), mark()),
        }
    }

    /// The whole name.
    #[must_use]
    pub fn name(&self) -> String {
        self.names.join(" ")
    }
}

/// The provider's module of people, with these in place of its own.
#[must_use]
pub fn module(people: &[Person]) -> String {
    let of = |upstream: &str, person: &dyn Fn(&Person) -> String| -> String {
        people
            .iter()
            .filter(|one| one.upstream == upstream)
            .map(|one| format!("  {},\n", person(one)))
            .collect()
    };
    let openid = of("demo", &|person| {
        let [given, family] = &person.names;
        format!(
            "[{:?}, {{ id: {:?}, key: {:?}, name: {:?}, given_name: {given:?}, family_name: {family:?}, email: {:?} }}]",
            person.subject,
            person.subject,
            person.key,
            person.name(),
            person.email
        )
    });
    let github = of("github", &|person| {
        format!(
            "[{}, {{ id: {}, key: {:?}, login: {:?}, name: {:?}, email: {:?} }}]",
            person.subject,
            person.subject,
            person.key,
            person.key,
            person.name(),
            person.email
        )
    });
    format!(
        "export const openidPeople = new Map([\n{openid}]);\nexport const githubPeople = new Map([\n{github}]);\n\
         export function personByKey(people, key) {{\n  return [...people.values()].find((person) => person.key === key);\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_is_at_their_provider_only() {
        let people = [Person::new(1, "demo"), Person::new(2, "github")];
        let module = module(&people);
        let (openid, github) = module.split_once("githubPeople").unwrap();
        assert!(openid.contains(&people[0].email) && !github.contains(&people[0].email));
        assert!(github.contains(&format!("[{}, ", people[1].subject)));
    }
}

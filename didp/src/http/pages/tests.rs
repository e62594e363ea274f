//! The pages: each template with typical content, and each route over HTTP, with a browser that keeps its cookies, a real
//! OpenID provider of the upstream tests, and devices that sit in the hub as connected ones do.

mod account;
mod claim;
mod consent;
mod elsewhere;
mod exactness;
mod login;
mod logins;
mod manufacturer;
mod rules;
mod samples;
mod site;

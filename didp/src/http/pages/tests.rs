//! The pages: each template with typical content, and each route over HTTP.

mod samples;

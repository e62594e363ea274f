//! OAuth names shared by the services: scopes, authorization details, introspection, errors.

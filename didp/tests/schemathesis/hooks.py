"""Credentials for Schemathesis: without them every answer would be 401 and nothing behind would be looked at."""

import base64
import os

import schemathesis


def value(name):
    return os.environ["OAUTHING_" + name]


def basic(name):
    return "Basic " + base64.b64encode(value(name).encode()).decode()


class Credential:
    """Sets an Authorization header unless the case is about one."""

    @classmethod
    def text(cls):
        raise NotImplementedError

    def get(self, case, context):
        return self.text()

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = data


@schemathesis.auth().apply_to(path_regex=r"^/register(/batch)?$")
class InitialAccessToken(Credential):
    @classmethod
    def text(cls):
        return "Bearer " + value("INITIAL_ACCESS_TOKEN")


@schemathesis.auth().apply_to(path_regex=r"^/register/\{client_id\}$")
class RegistrationAccessToken(Credential):
    @classmethod
    def text(cls):
        return "Bearer " + value("REGISTRATION_ACCESS_TOKEN")

    def set(self, case, data, context):
        super().set(case, data, context)
        # Half of the cases are about the client that the token is for.
        if len(str(case.path_parameters.get("client_id", ""))) % 2 == 0:
            case.path_parameters["client_id"] = value("REGISTERED")


@schemathesis.auth().apply_to(path_regex=r"^/(par|device_authorization|token|revoke)$")
class Client(Credential):
    @classmethod
    def text(cls):
        return basic("CLIENT")


@schemathesis.auth().apply_to(path_regex=r"^/introspect")
class Gateway(Credential):
    @classmethod
    def text(cls):
        return basic("GATEWAY")

"""A fake of Google Cloud for `ray up`: one project, and the calls that Ray's provider makes.

Compute Engine, Identity and Access Management, Resource Manager and the token server answer in one server, by the name
in the request; `google_servers.py` has the metadata server of the machines. The fake refuses requests that match no
published method, unknown fields, wrong machines (`google_rules.py`), stale fingerprints and callers without the role.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google_filters import matches
from google_rules import Discovery, GoogleError, Method, check_instance, check_labels

OWNER = "user:owner@example.com"  # who calls ray up
_ADMIN, _ACT_AS = "roles/compute.instanceAdmin.v1", "roles/iam.serviceAccountUser"
_NEEDS_ADMIN = ("compute.instances.", "compute.zoneOperations.")
_CLOUD = "https://www.googleapis.com/auth/cloud-platform"
_APIS = ("compute.v1", "iam.v1", "cloudresourcemanager.v1")
_TOKENS = "oauth2.googleapis.com"
# Ray asks at once, and then every 5 s. With operations that are done at once, unlike Google's, Ray 2.60's autoscaler
# reads a worker's labels before it lists them again, sees an unfinished set-up, and sets the worker up once more.
OPERATION_S = 0.5
Json = dict[str, Any]


@dataclass
class Project:
    """A project, and everything in it.

    Attributes:
        accounts: addresses of service accounts.
        bindings: members by role, of the whole project.
        act_as: members that may use a service account, by its address.
        subnetworks: their names; Ray takes the first one where a file names none.
        metadata: of all machines.
        instances: by name, as the API gives them.
    """

    name: str
    region: str
    zone: str
    accounts: set[str]
    bindings: dict[str, list[str]]
    act_as: dict[str, list[str]]
    subnetworks: list[str]
    metadata: list[Json] = field(default_factory=list)
    instances: dict[str, Json] = field(default_factory=dict)


class FakeGoogle:
    """The servers' state and their answers.

    Attributes:
        calls: the methods called so far, with their callers.
    """

    def __init__(self, project: Project, start: Callable[[Json], None], end: Callable[[str], None]) -> None:
        """Args: `start` runs a new machine and fills in its addresses, `end` ends the machine of a name."""
        self.project, self.calls = project, list[str]()
        self._start, self._end, self._lock = start, end, threading.RLock()
        self._apis = {api.host: api for api in map(Discovery, _APIS)}
        self._tokens = dict[str, tuple[str, tuple[str, ...]]]()
        self._ends = dict[str, float]()

    @property
    def hosts(self) -> list[str]:
        """The names under which Google's servers are addressed."""
        return [*self._apis, _TOKENS]

    def token(self, member: str, scopes: tuple[str, ...]) -> Json:
        """Return a new access token of a member of the project, such as `serviceAccount:ADDRESS`."""
        with self._lock:
            token = f"token-{len(self._tokens)}"
            self._tokens[token] = (member, scopes)
        return {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}

    def answer(self, host: str, verb: str, path: str, query: Mapping[str, str], token: str, body: Any) -> Json:
        """Return the answer to a request. Raises GoogleError if Google would refuse it."""
        with self._lock:
            if host == _TOKENS:
                return self._grant(verb, path, body)
            api = self._apis[host]
            method, names = api.find(verb, path, query)
            if method.request:
                api.check(method.request, body or {}, "resource")
            member, scopes = self._tokens.get(token, ("", ()))
            self.calls.append(f"{method.identity} {member}")
            self._authorize(method, member, scopes, names)
            handler = getattr(self, f"_{method.identity.replace('.', '_')}", None)
            if handler is None:
                raise GoogleError(501, f"the fake lacks {method.identity}")
            answered: Json = handler({**query, **names}, body or {}, member)
            return answered

    def preempt(self, name: str) -> None:
        """Take a spot machine away, as Google does when it needs the capacity: deleted or stopped, as it asks for."""
        with self._lock:
            instance = self._instance(name)
            self._end(name)
            if instance["scheduling"].get("instanceTerminationAction") == "DELETE":
                del self.project.instances[name]
            else:
                instance["status"] = "TERMINATED"

    def _grant(self, verb: str, path: str, body: Any) -> Json:
        if (verb, path) != ("POST", "/token") or body.get("grant_type") != "refresh_token":
            raise GoogleError(400, "unsupported_grant_type")
        return self.token(OWNER, (_CLOUD,))

    def _authorize(self, method: Method, member: str, scopes: tuple[str, ...], names: Mapping[str, str]) -> None:
        if not member:
            raise GoogleError(401, "Request had invalid authentication credentials.")
        project = names.get("project") or names.get("projectId") or names.get("projectsId") or names.get("resource")
        if project not in (None, self.project.name):
            raise GoogleError(403, f"The caller does not have permission: project {project}")
        if _CLOUD not in scopes:
            raise GoogleError(403, "Request had insufficient authentication scopes.")
        allowed = self.project.bindings.get(_ADMIN, ()) if method.identity.startswith(_NEEDS_ADMIN) else ()
        if member != OWNER and member not in allowed:
            raise GoogleError(403, f"Required '{method.identity}' permission for {member}")
        if names.get("zone", self.project.zone) != self.project.zone:
            raise GoogleError(404, f"The resource 'zones/{names['zone']}' was not found")

    # Resource Manager and IAM

    def _cloudresourcemanager_projects_get(self, names: Json, body: Json, member: str) -> Json:
        return {"projectId": self.project.name, "name": self.project.name, "lifecycleState": "ACTIVE"}

    def _cloudresourcemanager_projects_getIamPolicy(self, names: Json, body: Json, member: str) -> Json:  # noqa: N802
        bindings = [{"role": role, "members": list(members)} for role, members in self.project.bindings.items()]
        return {"version": 1, "bindings": bindings, "etag": _digest(bindings)}

    def _cloudresourcemanager_projects_setIamPolicy(self, names: Json, body: Json, member: str) -> Json:  # noqa: N802
        policy: Json = body["policy"]
        current = self._cloudresourcemanager_projects_getIamPolicy(names, {}, member)
        if policy.get("etag", current["etag"]) != current["etag"]:
            raise GoogleError(409, "There were concurrent policy changes.")
        for binding in policy["bindings"]:
            for name in binding["members"]:
                kind, _, address = name.partition(":")
                if kind == "serviceAccount" and address not in self.project.accounts:
                    raise GoogleError(400, f"Service account {address} does not exist.")
        self.project.bindings = {binding["role"]: list(binding["members"]) for binding in policy["bindings"]}
        return policy

    def _iam_projects_serviceAccounts_get(self, names: Json, body: Json, member: str) -> Json:  # noqa: N802
        address = names["serviceAccountsId"]
        if address not in self.project.accounts:
            raise GoogleError(404, f"Unknown service account {address}")
        return {"email": address, "projectId": self.project.name}

    def _iam_projects_serviceAccounts_create(self, names: Json, body: Json, member: str) -> Json:  # noqa: N802
        address = f"{body['accountId']}@{self.project.name}.iam.gserviceaccount.com"
        if address in self.project.accounts:
            raise GoogleError(409, f"Service account {body['accountId']} already exists")
        self.project.accounts.add(address)
        return {"email": address, "projectId": self.project.name}

    # Compute Engine: the project

    def _compute_projects_get(self, names: Json, body: Json, member: str) -> Json:
        items = self.project.metadata
        return {
            "name": self.project.name,
            "commonInstanceMetadata": {"fingerprint": _digest(items), **({"items": items} if items else {})},
        }

    def _compute_projects_setCommonInstanceMetadata(self, names: Json, body: Json, member: str) -> Json:  # noqa: N802
        if body.get("fingerprint") != _digest(self.project.metadata):
            raise GoogleError(412, "Supplied fingerprint does not match current metadata fingerprint.")
        self.project.metadata = body.get("items", [])
        return self._done()

    def _compute_subnetworks_list(self, names: Json, body: Json, member: str) -> Json:
        if names["region"] != self.project.region:
            raise GoogleError(404, f"The resource 'regions/{names['region']}' was not found")
        return {"items": [{"name": name, "selfLink": self._subnetwork(name)} for name in self.project.subnetworks]}

    def _compute_globalOperations_get(self, names: Json, body: Json, member: str) -> Json:  # noqa: N802
        return self._operation(names["operation"])

    def _compute_zoneOperations_get(self, names: Json, body: Json, member: str) -> Json:  # noqa: N802
        return self._operation(names["operation"])

    # Compute Engine: machines

    def _compute_instances_insert(self, names: Json, body: Json, member: str) -> Json:
        check_instance(body, self.project.zone)
        if body["name"] in self.project.instances:
            raise GoogleError(409, f"The resource '{body['name']}' already exists")
        for account in body.get("serviceAccounts", []):
            address = account["email"]
            if address not in self.project.accounts:
                raise GoogleError(400, f"The resource of type 'serviceAccount' with id '{address}' does not exist.")
            may = [*self.project.bindings.get(_ACT_AS, ()), *self.project.act_as.get(address, ())]
            if member not in (OWNER, *may):
                raise GoogleError(403, f"The user does not have access to service account '{address}'.")
        interfaces = body.get("networkInterfaces") or [{}]
        known = [self._subnetwork(name) for name in self.project.subnetworks]
        if not any(subnetwork.endswith(interfaces[0].get("subnetwork") or "-") for subnetwork in known):
            raise GoogleError(400, f"The subnetwork {interfaces[0].get('subnetwork')!r} does not exist")
        instance = {"scheduling": {}, "labels": {}, **body, "status": "RUNNING", "networkInterfaces": interfaces}
        self.project.instances[body["name"]] = instance | {"labelFingerprint": _digest(instance["labels"])}
        self._start(self.project.instances[body["name"]])
        return self._done()

    def _compute_instances_get(self, names: Json, body: Json, member: str) -> Json:
        return self._instance(names["instance"])

    def _compute_instances_list(self, names: Json, body: Json, member: str) -> Json:
        found = [one for one in self.project.instances.values() if matches(names.get("filter", ""), one)]
        return {"items": found} if found else {}  # an empty list is left out

    def _compute_instances_setLabels(self, names: Json, body: Json, member: str) -> Json:  # noqa: N802
        instance = self._instance(names["instance"])
        if body.get("labelFingerprint") != instance["labelFingerprint"]:
            raise GoogleError(412, "Labels fingerprint either invalid or resource labels have changed")
        check_labels(body.get("labels", {}))
        instance["labels"] = body.get("labels", {})
        instance["labelFingerprint"] = _digest(instance["labels"])
        return self._done()

    def _compute_instances_delete(self, names: Json, body: Json, member: str) -> Json:
        self._instance(names["instance"])
        self._end(names["instance"])
        del self.project.instances[names["instance"]]
        return self._done()

    def _instance(self, name: str) -> Json:
        if name not in self.project.instances:
            raise GoogleError(404, f"The resource 'instances/{name}' was not found")
        return self.project.instances[name]

    def _subnetwork(self, name: str) -> str:
        place = f"projects/{self.project.name}/regions/{self.project.region}/subnetworks/{name}"
        return f"https://www.googleapis.com/compute/v1/{place}"

    def _done(self) -> Json:
        """Return a new operation. Its work is done, but the API says so only a while later, as the real one does."""
        name = f"operation-{len(self._ends)}"
        self._ends[name] = time.monotonic() + OPERATION_S
        return self._operation(name)

    def _operation(self, name: str) -> Json:
        is_done = time.monotonic() > self._ends[name]
        return {"name": name, "status": "DONE" if is_done else "RUNNING", "progress": 100 if is_done else 0}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]

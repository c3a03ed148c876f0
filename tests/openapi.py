"""The API against its own OpenAPI document: schemathesis sends what the document allows and what it forbids to a real server.

Callers of three kinds take turns: an API key, the owner of a tenant, and platform staff, who may take everybody else's access
away and so come last. Nothing may fail with 5xx, and every answer must be one that the document has: status, content type, headers, body.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

PASSWORD = "correct horse battery staple"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,ignored_auth"
)
# Inputs generated for each operation; those that are derived from the document one by one come on top.
EXAMPLES = int(os.environ.get("WEIR_TEST_EXAMPLES", "10"))
SEED = os.environ.get("WEIR_TEST_SEED", "20260131")
PATIENCE = 60
# What a caller would lose its own access by. Schemathesis uses ids that it has seen in answers.
SUICIDE = ["keys_revoke", "keys_rotate", "projects_remove", "tenants_remove", "tenants_suspend", "tenants_change"]


class Server:
    """`weir serve` on free ports, alone in a folder."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = pathlib.Path(folder)
        ready = self.folder / "ready.json"
        outside = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        self.environment = outside | {
            "WEIR_DATA_DIR": str(self.folder / "data"),
            "WEIR_LISTEN": "127.0.0.1:0",
            "WEIR_OPS_LISTEN": "127.0.0.1:0",
            "WEIR_READY_FILE": str(ready),
            "WEIR_AUTH_ATTEMPTS_PER_EMAIL": "100000",
            "WEIR_AUTH_ATTEMPTS_PER_ADDRESS": "100000",
        }
        self.log = self.folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([binary, "serve"], env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.05)
        self.url = "http://" + json.loads(ready.read_text())["listen"]

    def run(self, *arguments, text=""):
        done = subprocess.run(
            [self.binary, *arguments], env=self.environment, input=text, text=True, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"weir {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def tenant(self, name):
        return json.loads(self.run("bootstrap", "--tenant", name, "--project", "main", "--json"))

    def sign_in(self, email, *rights):
        self.run("users", "create", "--email", email, "--password-stdin", *rights, text=PASSWORD + "\n")
        request = urllib.request.Request(
            self.url + "/v1/auth/login",
            data=json.dumps({"email": email, "password": PASSWORD}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["access_token"]

    def end(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


def check(server, who, credential, *more):
    """One run of schemathesis; whether all was as documented."""
    command = ["schemathesis", "run", server.url + "/openapi.json", "--no-color"]
    command += ["--header", f"Authorization: Bearer {credential}", "--checks", CHECKS, "--continue-on-failure"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", SEED]
    command += ["--generation-database", "none", "--warnings", "off", "--suppress-health-check", "all", *more]
    done = subprocess.run(command, cwd=server.folder, text=True, capture_output=True, check=False)
    summary = [line.strip() for line in done.stdout.splitlines() if " generated" in line]
    print(f"openapi: {who}: {' '.join(summary) or 'no summary'}", flush=True)
    if done.returncode != 0:
        print(done.stdout, done.stderr, sep="\n")
    elif not summary:
        print(f"openapi: schemathesis tested nothing:\n{done.stdout}{done.stderr}")
    return done.returncode == 0 and bool(summary)


def without(names):
    return [part for name in names for part in ("--exclude-operation-id", name)]


def main(binary):
    with tempfile.TemporaryDirectory(prefix="weir-openapi-") as folder:
        server = Server(binary, folder)
        try:
            one, other = server.tenant("one"), server.tenant("other")
            owner = server.sign_in("owner@example.com", "--tenant", other["tenant_id"], "--role", "owner")
            staff = server.sign_in("staff@example.com", "--operator")
            project = ["--header", f"X-Weir-Project: {other['project_id']}"]
            good = check(server, "an API key", one["api_key"], *without(SUICIDE))
            good &= check(server, "an owner", owner, *project, *without(SUICIDE[2:]))
            good &= check(server, "staff", staff)
            if server.process.poll() is not None:
                good = False
                print(f"openapi: the server ended:\n{server.log.read_text()}")
        finally:
            server.end()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

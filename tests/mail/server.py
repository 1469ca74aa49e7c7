"""A mail server for tests: `server.py starttls|implicit CERT KEY USER PASSWORD`.

It wants TLS and a login, has nobody called `gone`, and puts off `full` until it has put off one mail. It
prints its port, then a line of JSON for each mail: the envelope, and the mail as Python's library reads it.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Keep:
    put_off = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 no such user"
        if address.startswith("full@") and Keep.put_off == 0:
            Keep.put_off += 1
            return "452 4.2.2 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        raw = envelope.original_content
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        line = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "text": mail.get_content(),
            "defects": [str(defect) for defect in mail.defects],
            "tls": session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None,
        }
        print(json.dumps(line), flush=True)
        return "250 kept"


def main(mode, cert, key, user, password):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    def authenticate(server, session, envelope, mechanism, data):
        good = (data.login.decode(), data.password.decode()) == (user, password)
        # Otherwise the library takes the answer for sent.
        return AuthResult(success=good, handled=good)

    def protocol():
        return SMTP(
            Keep(),
            authenticator=authenticate,
            auth_required=True,
            auth_require_tls=mode == "starttls",
            require_starttls=mode == "starttls",
            tls_context=context if mode == "starttls" else None,
        )

    async def serve():
        implicit = context if mode == "implicit" else None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=implicit)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())


main(*sys.argv[1:])

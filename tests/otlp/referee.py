"""Reads and writes OTLP as the code does that is generated from the published schemas.

`referee.py request`: a request in protobuf, as hex, on the first line of standard input, and in JSON on the
second. Prints both as Python's library reads them, and whether it would write the first one byte for byte.
`referee.py reply REJECTED MESSAGE`: prints a reply in protobuf, as hex.
"""

import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)


def request():
    raw = bytes.fromhex(sys.stdin.readline().strip())
    message = ExportLogsServiceRequest.FromString(raw)
    text = sys.stdin.readline()
    same = json_format.Parse(text, ExportLogsServiceRequest())
    print(
        json.dumps(
            {
                "protobuf": json_format.MessageToDict(message),
                "json": json_format.MessageToDict(same),
                "same_bytes": message.SerializeToString(deterministic=True) == raw,
            }
        )
    )


def reply(rejected, message):
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = int(rejected)
    response.partial_success.error_message = message
    print(response.SerializeToString().hex())


{"request": request, "reply": reply}[sys.argv[1]](*sys.argv[2:])

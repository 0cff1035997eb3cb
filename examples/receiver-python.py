# Receives callbacks and checks their signatures: WEBHOOK_SECRET=whsec_… python3 examples/receiver-python.py [PORT]
import base64, hmac, json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"), validate=True) or sys.exit("WEBHOOK_SECRET is empty")
PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 4001

def is_genuine(headers, body):
    sent_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at[:12])) > 300:
        return False  # more than five minutes old: somebody may have kept it
    expected = b"v1," + base64.b64encode(hmac.digest(KEY, f"{sent_id}.{sent_at}.".encode() + body, "sha256"))
    given = headers.get("webhook-signature", "").encode().split(b" ")  # several while a secret is rotated
    return any([hmac.compare_digest(expected, each) for each in given])

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = self.headers.get("content-length", "")
        body = self.rfile.read(min(int(length[:12]), 1_000_000)) if length.isdecimal() else b""
        genuine = is_genuine(self.headers, body)  # over the bytes as they came
        if genuine:
            event = json.loads(body)
            print("verified", self.headers["webhook-id"], event.get("type"), json.dumps(event.get("data")), flush=True)
        else:
            print("refused: not signed with this secret just now", flush=True)
        self.send_response(204 if genuine else 400)  # anything but 2xx: the server tries again later
        self.end_headers()

server = ThreadingHTTPServer(("127.0.0.1", PORT), Receiver)
print(f"listening on http://127.0.0.1:{PORT}", flush=True)
server.serve_forever()

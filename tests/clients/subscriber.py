"""Follows topics with stock Python libraries and prints each event's JSON on a line: subscriber.py URL TOPICS

The token comes from TOKEN. A URL with /ws is followed with `websockets`, one with /sse with `sseclient-py` over
urllib. Whenever the connection breaks it is opened again, after the last cursor.
"""

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import sseclient
import websockets

HEADERS = {"Authorization": "Bearer " + os.environ["TOKEN"]}


def show(event):
    print(json.dumps(event), flush=True)


async def follow_websocket(url, topics):
    cursor = None
    connections = websockets.connect(url, subprotocols=["weir.v1"], additional_headers=HEADERS)
    async for connection in connections:
        try:
            request = {"type": "subscribe", "id": "1", "topics": topics, "after": cursor}
            await connection.send(json.dumps(request))
            async for text in connection:
                frame = json.loads(text)
                cursor = frame.get("cursor", cursor)
                if frame["type"] != "connected":
                    show(frame)
        except websockets.ConnectionClosed:
            continue


def follow_event_stream(url, topics):
    last = None
    while True:
        query = urllib.parse.urlencode({"topics": ",".join(topics)})
        headers = HEADERS | ({"Last-Event-ID": last} if last else {})
        try:
            response = urllib.request.urlopen(urllib.request.Request(f"{url}?{query}", headers=headers))
            show({"type": "subscribed"})
            for event in sseclient.SSEClient(response).events():
                last = event.id or last
                show({"type": "event"} | json.loads(event.data))
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)


if __name__ == "__main__":
    url, topics = sys.argv[1], sys.argv[2].split(",")
    if url.endswith("/ws"):
        asyncio.run(follow_websocket(url, topics))
    else:
        follow_event_stream(url, topics)

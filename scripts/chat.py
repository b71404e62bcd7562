#!/usr/bin/env python3
"""Asks an OpenAI-compatible server one question and prints the answer as it comes.

    scripts/chat.py http://127.0.0.1:8000 "Translate to Moroccan Darija: Good morning!"
"""

import json
import sys
import urllib.request


# The server is on this machine or named on the command line: no proxy of the environment stands between.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(address, path, body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return http.open(request, timeout=120)


def main():
    address, question = sys.argv[1:]
    with http.open(address + "/v1/models", timeout=120) as answer:
        model = json.load(answer)["data"][0]["id"]
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "messages": messages, "stream": True, "temperature": 0, "max_tokens": 60}
    with post(address, "/v1/chat/completions", body) as events:
        for line in events:
            data = line.decode().strip().removeprefix("data:").strip()
            if data == "[DONE]":
                break
            for choice in json.loads(data)["choices"] if data else []:
                print(choice["delta"].get("content") or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()

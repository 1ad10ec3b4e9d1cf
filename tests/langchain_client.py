"""What LangChain's ChatOpenAI gets from a server, as one line of JSON: a process of its own. No test stands here.

Words: the server's address, a film as a data URL.
"""

import json
import sys

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from openai import BadRequestError
from pydantic import BaseModel


class Draft(BaseModel):
    """What is wanted of a report."""

    findings: str
    review: list[str]
    finish_reason: str


class Text(BaseModel):
    """Of the whole document."""

    findings: str


def main(address: str, film: str) -> None:
    chat = ChatOpenAI(base_url=f"{address}/v1", api_key="none", model="embedded", max_retries=0)
    drawn = ChatOpenAI(
        base_url=f"{address}/v1", api_key="none", model="embedded", max_retries=0, n=2, temperature=0.9, seed=5
    )
    asked = HumanMessage([{"type": "image_url", "image_url": {"url": film}}])
    answer = chat.invoke([SystemMessage(""), asked])
    again = chat.invoke([asked, AIMessage(answer.content), asked])
    known = chat.bind(logprobs=True, top_logprobs=2).invoke([asked]).response_metadata["logprobs"]
    try:
        chat.invoke([asked, answer, HumanMessage("Are you sure?")])
        refusal = ""
    except BadRequestError as error:
        refusal = str(error)
    found = {
        "whole": answer.content,
        "again": again.content,
        "tokens": answer.usage_metadata["output_tokens"],
        "streamed": "".join(str(chunk.content) for chunk in chat.stream([asked])),
        "cut": chat.invoke([asked], stop=[str(answer.content)[5:8]]).content,
        "drawn": [one.text for one in drawn.generate([[asked]]).generations[0]],
        "logprobs": "".join(entry["token"] for entry in known["content"]),
        "structured": chat.with_structured_output(Draft, method="json_schema").invoke([asked]).model_dump(),
        "json": chat.with_structured_output(Text, method="json_mode").invoke([asked]).model_dump(),
        "refusal": refusal,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

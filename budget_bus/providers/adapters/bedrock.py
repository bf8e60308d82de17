"""Amazon Bedrock: Converse, and what its models answer in their own forms."""

from __future__ import annotations

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, CONVERSE, MESSAGES


class Bedrock(BaseProvider):
    """In Converse `cacheReadInputTokens` and `cacheWriteInputTokens` are outside of `inputTokens`."""

    name = "bedrock"
    # With the value of OpenTelemetry's gen_ai.provider.name: aws.bedrock.
    aliases = ("amazon-bedrock", "aws", "aws.bedrock", "bedrock-converse")
    book_id = "aws"
    shapes = (MESSAGES, CHAT, CONVERSE)
    unique_ids = True

"""Every provider keeps the promises of the Model port."""

from __future__ import annotations

from model_wires import AnthropicWire, ChatWire, ResponsesWire

from remit.testing.model_suite import ModelSuite


class TestAnthropic(ModelSuite):
    wire = AnthropicWire()


class TestOpenAIResponses(ModelSuite):
    wire = ResponsesWire()


class TestOpenAIChat(ModelSuite):
    wire = ChatWire()

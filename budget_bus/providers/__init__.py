"""
What is known of LLM providers, and the only code that knows their libraries. Nothing here uses the network.

names.py    one stored name per provider, and the platform's tier of a model
prices.py   the price book: provider, model, instant, service tier -> Price     (around genai-prices)
book.py     how one row of the bundled price data becomes a Price in whole picos (around genai-prices)
siblings.py which other models of a provider could answer the same call
tokens.py   how many tokens a text has, and the most it could have               (around toktok)

An adapter per provider (`openai.py`, `anthropic.py`, ... on `base.py`) belongs beside these: it reads a raw
response's usage and asks the modules above for the rest.
"""

"""
What is known of LLM providers, and the only code that knows their libraries. Nothing here uses the network.

base.py        BaseProvider: names, form of responses, tier, vocabulary, price of its own
adapters/      one module per provider, mostly facts       registry.py    all of them, and those of other packages
names.py       one stored name per provider, and the platform's tier of a model
prices.py      the price book: provider, model, instant, service tier -> Price
own.py         prices that an operator has set
data.py        the price data in use: genai-prices' own, or a newer document       (around genai-prices)
book.py        how one row of it becomes a Price in whole picos                    (around genai-prices)
merging.py     what of newer data is plausible
comparison.py  two sources of prices beside each other      second_table.py  litellm's table in our words
siblings.py    which other models of a provider could answer the same call
tokens.py      how many tokens a text has, and the most it could have: vocabularies.py, counting.py (around toktok)

A raw response's usage goes through

gathering.py   a stream's chunks -> one body               shapes.py      which form it has
raw_counts.py  its counts, checked                         (around genai-prices' extractors)
normaliser.py  our token classes, and what to do with what cannot be: the rules are written there
extracted.py   the result
"""

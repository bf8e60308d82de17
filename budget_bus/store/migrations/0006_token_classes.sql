-- Classes of tokens with prices of their own: parts of cache_creation_input_tokens, input_tokens and output_tokens.

ALTER TABLE ledger
    ADD COLUMN cache_creation_1h_input_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN input_image_tokens             bigint NOT NULL DEFAULT 0,
    ADD COLUMN output_image_tokens            bigint NOT NULL DEFAULT 0;

//! Documents to token ids: tokenizer, chat formats, loss masks, packing, batch order.

def attend(q, k, v, window=0):
    """Causal attention, all (B, T, H, D): position t sees t - window .. t, or 0 .. t if window is 0."""
    import torch
    from torch.nn import functional

    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    mask = None
    if 0 < window < q.size(2) - 1:
        t = torch.arange(q.size(2), device=q.device)
        back = t.unsqueeze(1) - t
        mask = (back >= 0) & (back <= window)
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return out.transpose(1, 2)

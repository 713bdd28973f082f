"""A small GPT-2 whose linear layers a server keeps: asked on ciphertexts, then fine-tuned by the client.

The client sees no weight of those layers (until it has asked about as many tokens as a layer has inputs), the server
no token. The adapters that are trained, and what they are trained on, stay with the client.
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tacit.fhe import Hybrid

torch.manual_seed(1)
config = GPT2Config(
    n_layer=2, n_embd=16, n_head=2, vocab_size=30, n_positions=16, bos_token_id=0, eos_token_id=0,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
)  # fmt: skip
model = GPT2LMHeadModel(config).eval()
layers = ["transformer.h.*.attn.c_*", "transformer.h.*.mlp.c_*"]

# The owner takes the model apart. Served: tacit serve-fhe halves/server --client halves/client
owner = Hybrid(model, layers, gradients=True)
folder = owner.save("halves")

# The client builds the class itself, and has neither the model nor these layers' weights.
client = Hybrid.connect(GPT2LMHeadModel(config).eval(), folder / "client", server=folder / "server")
prompt = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
encrypted = client(prompt).logits
owner.fhe = "simulate"
print("on ciphertexts and in clear integers equal:", torch.equal(encrypted, owner(prompt).logits))
print("furthest from the clear model:", float((encrypted - model(prompt).logits).detach().abs().max()))

adam = torch.optim.Adam(client.adapt(rank=2), 0.02)
for step in range(4):
    adam.zero_grad()
    loss = client(prompt, labels=prompt).loss
    loss.backward()
    adam.step()
    print(f"step {step}: loss {loss.item():.3f}")

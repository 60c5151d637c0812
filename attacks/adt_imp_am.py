"""The implicit distribution of ADT, as an attack."""

import torch
import torch.nn.functional as F

from robench.models.generators import LATENT, REFERENCE_BATCH, Blocks, ImplicitGenerator, Posterior, generator_input
from robench.search import Search, sees
from robench.search.resources import TrainingImages


@sees("gradients", norms=["linf"])
def adt_imp_am(
    search: Search,
    *,
    training: TrainingImages,
    epochs: int = 10,
    filters: int = 256,
    blocks: Blocks = "code",
    draws: int = 10,
    entropy_weight: float = 0.01,
    lr: float = 2e-4,
) -> None:
    """Draws what a generator, trained against the frozen model, makes of random z (Dong et al. 2020, Table 4).

    The generator turns x, two gradients of the cross-entropy and z ~ U(-1, 1)^64 into delta / eps. On the training
    images it raises the cross-entropy of one draw plus `entropy_weight` times log q(z | delta), the mean over z's
    dimensions, which bounds the entropy and which q learns to raise as well: Adam, batches of 64, betas (0.5, 0.999)
    for the generator. The paper says neither for how many epochs nor how many draws it scores.

    An example costs two passes both ways and a forward pass for each draw. Training, once for each model and threat,
    costs three of both for every image and epoch; they are counted with no example.
    """

    def learn() -> ImplicitGenerator:
        device, seed = search.x.device, search.draws.seed
        random = torch.Generator(device).manual_seed(seed)
        with search.train_against() as model:
            generator = ImplicitGenerator(search.shape, filters, blocks).to(device)
            posterior = Posterior(search.shape, filters).to(device)
            adam = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999))
            adam.add_param_group({"params": posterior.parameters(), "betas": (0.9, 0.999)})
            for x, y in training.batches(REFERENCE_BATCH, epochs, random):
                z = 2 * torch.rand((len(x), LATENT), generator=random, device=device) - 1
                delta = generator(generator_input(model, x, y, search.eps), z)
                risk = F.cross_entropy(model((x + search.eps * delta).clamp(0, 1)), y)
                adam.zero_grad()
                (-risk - entropy_weight * posterior(delta, z).mean()).backward()
                adam.step()
        return generator.eval()

    generator = search.resources.once("generator", learn)
    with search.as_module() as model:
        at = search.state(seen=generator_input(model, search.x, search.y, search.eps))
    for draw in search.steps(draws):
        z = 2 * search.draws.uniform("z", (LATENT,), draw) - 1
        search.offer((search.x + search.eps * generator(at.seen, z)).clamp(0, 1))

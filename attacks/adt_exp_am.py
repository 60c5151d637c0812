"""The explicit distribution of ADT made by a generator network, as an attack."""

import torch
import torch.nn.functional as F

from robench.models.generators import REFERENCE_BATCH, Blocks, ExplicitGenerator, generator_input
from robench.models.tanh_gaussian import negative_log_density, perturbed
from robench.search import Search, sees
from robench.search.resources import TrainingImages


@sees("gradients", norms=["linf"])
def adt_exp_am(
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
    """Draws from the distribution that a generator trained against the frozen model gives (Dong et al. 2020, Table 4).

    The generator sees x with two gradients of the cross-entropy and gives the mean and deviation of a tanh-Gaussian. On
    the training images it raises the cross-entropy of one draw plus `entropy_weight` times the entropy per dimension:
    Adam, betas (0.5, 0.999), batches of 64. The paper says neither for how many epochs nor how many draws it scores.

    An example costs two passes both ways and a forward pass for each draw. Training, once for each model and threat,
    costs three of both for every image and epoch; they are counted with no example.
    """

    def learn() -> ExplicitGenerator:
        device, seed = search.x.device, search.draws.seed
        random = torch.Generator(device).manual_seed(seed)
        with search.train_against() as model:
            generator = ExplicitGenerator(search.shape, filters, blocks).to(device)
            adam = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999))
            for x, y in training.batches(REFERENCE_BATCH, epochs, random):
                mu, rho = generator(generator_input(model, x, y, search.eps))
                noise = torch.randn(x.shape, generator=random, device=device)
                risk = F.cross_entropy(model(perturbed(x, noise, mu, rho, search.eps)), y)
                entropy = negative_log_density(noise, mu, rho, search.eps).mean()
                adam.zero_grad()
                (-risk - entropy_weight * entropy).backward()  # type: ignore[no-untyped-call]
                adam.step()
        return generator.eval()

    generator = search.resources.once("generator", learn)
    with search.as_module() as model:
        mu, rho = generator(generator_input(model, search.x, search.y, search.eps))
    at = search.state(mu=mu, rho=rho)
    for draw in search.steps(draws):
        noise = search.draws.normal("noise", search.shape, draw)
        search.offer(perturbed(search.x, noise, at.mu, at.rho, search.eps))

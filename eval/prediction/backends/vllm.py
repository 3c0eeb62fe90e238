"""vLLM in this process, in an environment of its own (requirements-vllm.txt).

The prompts' token ids come from `common.chat`, so that they are those of training here, too;
vLLM is given ids, never text. It caches shared beginnings itself. Exact mode walks the answer trie
by the log-probabilities of named tokens (`walk.py`).
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from common.chat import PromptEncoder
from common.errors import Refusal
from eval.prediction.asking import Masses, Reply, Request, Sampling
from eval.prediction.trie import TrieBuilder
from eval.prediction.walk import Seen, parts_of, walk_requests
from eval.settings import ExactSettings, Settings

AT_ONCE = 1024  # requests between two saves; the engine makes its own batches of them
MOST_TOKENS = 1100  # tokens that a request may name: the first ones of MAX_ANSWERS answers


class VllmBackend:
    """`Backend` for vLLM's offline engine."""

    def __init__(self, model: str, settings: Settings) -> None:
        if settings.mode == "exact" and settings.exact != ExactSettings():
            raise Refusal("vLLM's probabilities have temperature 1 and top_p 1; set exact's to these")
        try:
            import vllm
        except ImportError:
            raise Refusal(
                "vLLM isn't installed here; install it in an environment of its own "
                "(pip install -r requirements-vllm.txt), or start its server there and give --url"
            ) from None
        self.vllm: Any = vllm
        self.engine = vllm.LLM(
            model=model,
            dtype=settings.local.dtype,
            seed=settings.seed,
            enable_prefix_caching=settings.local.reuse_prefixes,
            max_logprobs=MOST_TOKENS,
            generation_config="vllm",  # not the checkpoint's: sampling is what the settings say
        )
        tokenizer = self.engine.get_tokenizer()
        self.encoder, self.tries = PromptEncoder(tokenizer, model), TrieBuilder(tokenizer)
        self.longest = self.engine.llm_engine.model_config.max_model_len

    def can_enumerate(self, answers: Sequence[int]) -> bool:
        """See `Backend`: any."""
        return True

    def masses(
        self, requests: Sequence[Request], exact: ExactSettings, done: Collection[int] = ()
    ) -> Iterator[tuple[int, Masses | None]]:
        """See `Backend`. None where prompt and answer are longer than the model can read."""
        for rows in parts_of(len(requests), AT_ONCE, done):
            yield from walk_requests(self, requests, rows)

    def next_tokens(self, prompts: Sequence[list[int]], wanted: Sequence[Sequence[int]]) -> list[Seen | None]:
        """See `walk.Reader`."""
        readable = [row for row, ids in enumerate(prompts) if len(ids) < self.longest]
        try:
            parameters = [
                self.vllm.SamplingParams(
                    max_tokens=1, logprobs=len(wanted[row]), logprob_token_ids=list(wanted[row])
                )
                for row in readable
            ]
        except TypeError:
            raise Refusal("this vLLM can't name tokens; install vllm 0.32, or use --mode sampled") from None
        outputs = self.engine.generate(
            [{"prompt_token_ids": prompts[row]} for row in readable], parameters, use_tqdm=False
        )
        seen: list[Seen | None] = [None] * len(prompts)
        for row, output in zip(readable, outputs, strict=True):
            shown = output.outputs[0].logprobs[0]
            seen[row] = Seen(np.array([shown[token].logprob for token in wanted[row]]))
        return seen

    def replies(
        self, requests: Sequence[Request], sampling: Sampling, done: Collection[int] = ()
    ) -> Iterator[tuple[int, list[Reply]]]:
        """See `Backend`. A constrained reply is one of the request's answers."""
        for part in parts_of(len(requests), AT_ONCE, done):
            prompts = self.encoder.encode(
                [requests[row].system for row in part], [requests[row].prompt for row in part]
            )
            outputs = self.engine.generate(
                [{"prompt_token_ids": ids} for ids in prompts],
                [self._parameters(requests[row], sampling) for row in part],
                use_tqdm=False,
            )
            for row, output in zip(part, outputs, strict=True):
                yield row, [Reply(o.text, o.finish_reason == "stop") for o in output.outputs]

    def _parameters(self, request: Request, sampling: Sampling) -> Any:
        constraint = {}
        if request.answers:
            choices = [str(answer) for answer in request.answers]
            parameters = self.vllm.sampling_params
            constraint = {"structured_outputs": parameters.StructuredOutputsParams(choice=choices)}
        return self.vllm.SamplingParams(
            n=sampling.samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=hash(request.seed) & 0x7FFFFFFF,
            stop_token_ids=self.encoder.stop_ids,
            **constraint,
        )

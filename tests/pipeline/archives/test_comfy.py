"""Graphs of ComfyUI of many kinds, made here: which text is the prompt of the picture, and where there is none."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from allfour.pipeline.archives.comfy import prompt_in_graph

NURSE = "a photo of a nurse"
NEGATIVE = (
    "blurry, ugly, deformed, a very long negative text that is longer than any prompt here, watermark, jpeg artifacts"
)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def encoder(text: Any) -> dict[str, Any]:
    return node("CLIPTextEncode", text=text, clip=["4", 1])


def desk(positive: Any = ("6", 0), **nodes: dict[str, Any]) -> dict[str, Any]:
    """The plain graph of one picture, with a positive input of one's own and further nodes (n9=... for node 9)."""
    graph = {
        "3": node(
            "KSampler", seed=1, steps=20, cfg=7, sampler_name="euler", scheduler="normal", denoise=1.0, model=["4", 0],
            positive=list(positive), negative=["7", 0], latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="m.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=512, batch_size=1),
        "6": encoder(NURSE),
        "7": encoder(NEGATIVE),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    }  # fmt: skip
    return graph | {name.removeprefix("n"): value for name, value in nodes.items()}


def read(graph: dict[str, Any], workflow: dict[str, Any] | None = None) -> str | None:
    return prompt_in_graph(json.dumps(graph), json.dumps(workflow) if workflow else None)


class TestTexts:
    """What an encoder's text is made of."""

    @pytest.mark.parametrize(
        ("nodes", "prompt"),
        [
            ({}, NURSE),
            ({"n20": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("PrimitiveStringMultiline", value=NURSE)}, NURSE),
            ({"n20": node("Text Multiline", text=f"# a note\n{NURSE}")}, NURSE),
            ({"n20": node("CR Text", text=NURSE)}, NURSE),
            ({"n20": node("String Literal", string=NURSE)}, NURSE),
            ({"n20": node("easy positive", positive=NURSE)}, NURSE),
            ({"n20": node("JWStringMultiline", text=NURSE)}, NURSE),
            ({"n20": node("CR Prompt Text", prompt=NURSE)}, NURSE),
            ({"n20": node("ShowText|pysssss", text=["21", 0], text_0="of an earlier run"), "n21": node("Text _O", text=NURSE)}, NURSE),
            ({"n20": node("Reroute", **{"": ["21", 0]}), "n21": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("StringConcatenate", string_a="a photo of a ", string_b=["21", 0], delimiter=""),
              "n21": node("PrimitiveString", value="nurse")}, NURSE),
            ({"n20": node("Text Concatenate", delimiter=", ", clean_whitespace="true", text_a=f"{NURSE} ", text_b="",
                          text_c=["21", 0]), "n21": node("Text Multiline", text="hospital")}, f"{NURSE}, hospital"),
            ({"n20": node("CR Text Concatenate", text1="a photo of", text2="a nurse", separator=" ")}, NURSE),
            ({"n20": node("JoinStrings", string1="a photo of", string2="a nurse", delimiter=" ")}, NURSE),
            ({"n20": node("StringFunction|pysssss", action="append", tidy_tags="yes", text_a=NURSE, text_b="hospital",
                          text_c="")}, f"{NURSE}, hospital"),
            ({"n20": node("StringFunction|pysssss", action="replace", tidy_tags="no", text_a="a photo of a JOB",
                          text_b="JOB", text_c="nurse")}, NURSE),
            ({"n20": node("StringReplace", string="a photo of a JOB", find="JOB", replace="nurse")}, NURSE),
            ({"n20": node("StringTrim", string=f"  {NURSE} ", mode="Both")}, NURSE),
            ({"n20": node("CaseConverter", string="A Photo of a Nurse", mode="lowercase")}, NURSE),
            ({"n20": node("SDXLPromptStyler", text_positive=NURSE, text_negative="blurry", style="x")}, NURSE),
            ({"n20": node("SDXLPromptStyler", text_positive=["21", 0], text_negative="blurry", style="x"),
              "n21": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("ImpactWildcardProcessor", wildcard_text="a photo of a __job__", populated_text=NURSE,
                          mode="populate", seed=1)}, NURSE),
            ({"n20": node("DPRandomGenerator", text=NURSE, seed=1)}, NURSE),
            ({"n20": node("CR Text Input Switch", Input=2, text1="a dog", text2=["21", 0]),
              "n21": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("ImpactSwitch", select=1, input1=["21", 0], input2=["22", 0]),
              "n21": node("PrimitiveString", value=NURSE), "n22": node("PrimitiveString", value="a dog")}, NURSE),
            ({"n20": node("Any Switch (rgthree)", any_01=["21", 0]), "n21": node("PrimitiveString", value=NURSE)}, NURSE),
            ({"n20": node("easy showAnything", text="of an earlier run", anything=["21", 0]),
              "n21": node("PrimitiveString", value=NURSE)}, NURSE),
        ],
    )  # fmt: skip
    def test_followed(self, nodes: dict[str, Any], prompt: str) -> None:
        graph = desk(**nodes) if not nodes else desk(**nodes, n6=encoder(["20", 0]))
        assert read(graph) == prompt

    @pytest.mark.parametrize(
        "maker",
        [
            node("OllamaGenerate", prompt="Describe a nurse", model="m"),
            node("DPRandomGenerator", text="a {doctor|nurse}", seed=1),
            node("ImpactWildcardProcessor", wildcard_text="a __job__", populated_text="", mode="populate", seed=1),
            node("WD14Tagger|pysssss", image=["10", 0], model="m"),
            node("Load Text File", file_path="x.txt"),
            node("RegexReplace", string="a nurse", regex_pattern="n", replace="p"),
            node("Text Random Line", text="a nurse\na dog", seed=1),
            node("ImpactSwitch", select=["30", 0], input1="a nurse", input2="a dog"),
            node("SomethingNew", alpha="a nurse", beta="a dog"),
            node("Prompt Styles Selector", style="a nurse"),
            node("SDPromptReader", image="nurse.png"),
            node("Prompt Builder", text="a nurse", prompt=["6", 0]),
        ],
    )
    def test_not_followed(self, maker: dict[str, Any]) -> None:
        assert read(desk(n6=encoder(["20", 0]), n20=maker)) is None

    def test_a_missing_node(self) -> None:
        assert read(desk(n6=encoder(["99", 0]))) is None


class TestConditioning:
    @pytest.mark.parametrize(
        ("nodes", "prompt"),
        [
            ({"n10": node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["6", 0]),
              "n11": encoder("best quality, ")}, f"best quality, {NURSE}"),
            ({"n10": node("ConditioningConcat", conditioning_to=["6", 0], conditioning_from=["11", 0]),
              "n11": encoder("in the rain")}, f"{NURSE}, in the rain"),
            ({"n10": node("ConditioningAverage", conditioning_to=["6", 0], conditioning_from=["11", 0],
                          conditioning_to_strength=0.5), "n11": encoder("a doctor")}, f"{NURSE}, a doctor"),
            ({"n10": node("ConditioningAverage", conditioning_to=["6", 0], conditioning_from=["11", 0],
                          conditioning_to_strength=1.0), "n11": encoder("a doctor")}, NURSE),
            ({"n10": node("ConditioningCombine", conditioning_1=["12", 0], conditioning_2=["13", 0]),
              "n12": node("ConditioningSetArea", conditioning=["6", 0], width=64, height=64, x=0, y=0, strength=1),
              "n13": node("ConditioningSetMask", conditioning=["11", 0], mask=["40", 0], strength=1),
              "n11": encoder("a doctor")}, f"{NURSE}, a doctor"),
            ({"n10": node("ControlNetApply", conditioning=["6", 0], control_net=["41", 0], image=["42", 0], strength=1)}, NURSE),
            ({"n10": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["41", 0],
                          image=["42", 0])}, NURSE),
            ({"n10": node("unCLIPConditioning", conditioning=["6", 0], clip_vision_output=["43", 0], strength=1)}, NURSE),
            ({"n10": node("GLIGENTextBoxApply", text="sun", conditioning_to=["6", 0], clip=["4", 1])}, NURSE),
            ({"n10": node("FluxGuidance", conditioning=["6", 0], guidance=3.5)}, NURSE),
            ({"n10": node("ConditioningSetTimestepRange", conditioning=["6", 0], start=0, end=1)}, NURSE),
            ({"n10": node("StyleModelApply", conditioning=["6", 0], style_model=["44", 0])}, NURSE),
            ({"n10": node("Reroute", **{"": ["6", 0]})}, NURSE),
            ({"n10": node("CLIPTextEncodeSDXL", text_g=NURSE, text_l=NURSE, width=1024, height=1024, clip=["4", 1])}, NURSE),
            ({"n10": node("CLIPTextEncodeSDXL", text_g=NURSE, text_l="photorealistic", clip=["4", 1])}, f"{NURSE}, photorealistic"),
            ({"n10": node("CLIPTextEncodeFlux", clip_l="nurse", t5xxl=NURSE, guidance=3.5, clip=["4", 1])}, NURSE),
            ({"n10": node("CLIPTextEncodeSD3", clip_l="", clip_g="", t5xxl=NURSE, clip=["4", 1])}, NURSE),
            ({"n10": node("TextEncodeQwenImageEdit", prompt=NURSE, clip=["4", 1])}, NURSE),
            ({"n10": node("CLIPTextEncodeLumina2", system_prompt="superior", user_prompt=NURSE, clip=["4", 1])}, NURSE),
            ({"n10": node("ImpactWildcardEncode", wildcard_text="a __x__", populated_text=NURSE, clip=["4", 1])}, NURSE),
            ({"n10": node("smZ CLIPTextEncode", text=NURSE, with_SDXL=False, text_g="", text_l="", clip=["4", 1])}, NURSE),
            ({"n10": node("ConditioningSetDefaultAndCombine", cond=["6", 0], cond_DEFAULT=["11", 0]), "n11": encoder("a room")},
             f"{NURSE}, a room"),
            ({"n10": node("PairConditioningSetPropertiesAndCombine", positive=["6", 0], negative=["7", 0], positive_NEW=["11", 0],
                          negative_NEW=["7", 0]), "n11": encoder("a room")}, f"{NURSE}, a room"),
            ({"n10": node("PairConditioningCombine", positive_A=["6", 0], negative_A=["7", 0], positive_B=["11", 0], negative_B=["7", 0]),
              "n11": encoder("a room")}, f"{NURSE}, a room"),
            ({"n10": node("FromBasicPipe", basic_pipe=["11", 0]), "n11": node("ToBasicPipe", positive=["6", 0], negative=["7", 0])}, NURSE),
            ({"n10": node("Context Big (rgthree)", base_ctx=["11", 0]),
              "n11": node("Context (rgthree)", positive=["6", 0], negative=["7", 0])}, NURSE),
        ],
    )  # fmt: skip
    def test_followed(self, nodes: dict[str, Any], prompt: str) -> None:
        assert read(desk(("10", 0), **nodes)) == prompt

    def test_the_sides_of_a_node_with_both(self) -> None:
        loader = node("Efficient Loader", ckpt_name="m", positive=NURSE, negative=NEGATIVE, empty_latent_width=512)
        graph = desk(("10", 1), n10=loader)
        graph["3"]["inputs"]["negative"] = ["10", 2]
        assert read(graph) == NURSE
        control = node("ApplyInstantID", positive=["6", 0], negative=["7", 0], model=["4", 0], image=["42", 0])
        assert read(desk(("10", 1), n10=control)) == NURSE
        named = {"nodes": [{"id": 10, "outputs": [{"name": "LATENT"}, {"name": "negative"}, {"name": "positive"}]}]}
        odd = node("Odd", positive=["6", 0], negative=["7", 0])
        assert read(desk(("10", 2), n10=odd), named) == NURSE

    def test_what_is_zeroed_says_nothing(self) -> None:
        assert read(desk(("10", 0), n10=node("ConditioningZeroOut", conditioning=["6", 0]))) is None
        parts = {"n10": node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["6", 0])}
        assert read(desk(("10", 0), **parts, n11=node("ConditioningZeroOut", conditioning=["7", 0]))) == NURSE

    def test_words_of_every_frame_are_no_prompt(self) -> None:
        schedule = node("BatchPromptSchedule", text='"0": "spring", "12": "winter"', clip=["4", 1])
        assert read(desk(("10", 0), n10=schedule)) is None

    def test_a_part_that_cannot_be_followed(self) -> None:
        parts = {"n10": node("ConditioningCombine", conditioning_1=["11", 0], conditioning_2=["6", 0])}
        assert read(desk(("10", 0), **parts, n11=node("Strange", weight=1))) is None


class TestSamplers:
    def guided(self, guider: dict[str, Any]) -> dict[str, Any]:
        return {
            "5": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
            "6": encoder(NURSE),
            "7": encoder(NEGATIVE),
            "13": node(
                "SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], sampler=["16", 0], sigmas=["17", 0],
                latent_image=["5", 0],
            ),
            "16": node("KSamplerSelect", sampler_name="euler"),
            "17": node("BasicScheduler", scheduler="simple", steps=20, denoise=1.0, model=["12", 0]),
            "22": guider,
            "25": node("RandomNoise", noise_seed=1),
            "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
            "9": node("SaveImage", images=["8", 0]),
        }  # fmt: skip

    @pytest.mark.parametrize(
        "guider",
        [
            node("BasicGuider", model=["12", 0], conditioning=["6", 0]),
            node("CFGGuider", model=["12", 0], positive=["6", 0], negative=["7", 0], cfg=3),
            node("PerpNegGuider", model=["12", 0], positive=["6", 0], negative=["7", 0], empty_conditioning=["7", 0]),
        ],
    )
    def test_guiders(self, guider: dict[str, Any]) -> None:
        assert read(self.guided(guider)) == NURSE

    def test_a_guider_with_two(self) -> None:
        guider = node("DualCFGGuider", model=["12", 0], cond1=["6", 0], cond2=["11", 0], negative=["7", 0])
        assert read(self.guided(guider) | {"11": encoder("in the rain")}) == f"{NURSE}, in the rain"

    def test_a_second_pass_with_a_prompt_of_its_own(self) -> None:
        second = {
            "20": node("LatentUpscale", samples=["3", 0], width=1024, height=1024),
            "21": encoder("a landscape with mountains, much longer than the first one and far more detailed"),
            "22": node("KSampler", seed=2, steps=10, positive=["21", 0], negative=["7", 0], latent_image=["20", 0]),
            "23": node("VAEDecode", samples=["22", 0], vae=["4", 2]),
        }
        graph = {**second, **desk()}  # the second sampler stands first
        graph["9"] = node("SaveImage", images=["23", 0])
        assert read(graph) == NURSE
        graph["10"] = node("SaveImage", images=["8", 0])  # both passes are saved
        assert read(graph) == NURSE

    @pytest.mark.parametrize("conditioning", ["6", "11"])
    def test_two_stages(self, conditioning: str) -> None:
        """The second one has the first one's latent from its conditioning."""
        first = desk()["3"]
        second = node("KSampler", steps=10, seed=1, positive=["10", 0], negative=["11", 0], latent_image=["5", 1])
        stage = node("StableCascade_StageB_Conditioning", conditioning=[conditioning, 0], stage_c=["12", 0])
        zero = node("ConditioningZeroOut", conditioning=["6", 0])
        assert read(desk(n3=second, n10=stage, n11=zero, n12=first)) == NURSE

    def test_a_pipe_from_node_to_node(self) -> None:
        graph = {
            "1": node("easy fullLoader", ckpt_name="m", positive="a dog", negative=NEGATIVE),
            "2": node("easy pipeIn", pipe=["1", 0], pos=["6", 0]), "3": node("easy preSampling", pipe=["2", 0], steps=20, seed=1),
            "4": node("easy kSampler", pipe=["3", 0], image_output="Preview"), "5": node("SaveImage", images=["4", 1]),
            "6": encoder(NURSE),
        }  # fmt: skip
        assert read(graph) == NURSE
        assert read(graph | {"2": node("easy pipeEdit", pipe=["1", 0], optional_positive="a cat")}) is None

    def test_a_loaded_picture_that_no_encoder_had_a_part_in(self) -> None:
        loaded = {"1": node("LoadImage", image="x.png"), "2": node("SaveImage", images=["1", 0]), "3": encoder(NURSE)}
        assert read(loaded) is None

    def test_the_second_pass_over_pixels(self) -> None:
        graph = desk(
            n20=node("ImageUpscaleWithModel", image=["8", 0], upscale_model=["30", 0]),
            n21=node("VAEEncode", pixels=["20", 0], vae=["4", 2]),
            n22=node("KSampler", seed=2, steps=10, positive=["23", 0], negative=["7", 0], latent_image=["21", 0]),
            n23=encoder("sharp"),
            n24=node("VAEDecode", samples=["22", 0], vae=["4", 2]),
            n9=node("SaveImage", images=["24", 0]),
        )
        assert read(graph) == NURSE

    def test_base_and_refiner(self) -> None:
        graph = desk(
            n3=node(
                "KSamplerAdvanced", noise_seed=1, steps=25, positive=["6", 0], negative=["7", 0], latent_image=["5", 0]
            ),
            n20=node(
                "KSamplerAdvanced", noise_seed=1, steps=25, positive=["21", 0], negative=["7", 0], latent_image=["3", 0]
            ),
            n21=node("CLIPTextEncodeSDXLRefiner", ascore=6, width=1024, height=1024, text="refined", clip=["4", 1]),
            n8=node("VAEDecode", samples=["20", 0], vae=["4", 2]),
        )
        assert read(graph) == NURSE

    def test_a_detailer_after_the_sampler(self) -> None:
        face = node("FaceDetailer", image=["8", 0], positive=["21", 0], negative=["7", 0], seed=1, steps=20, cfg=7)
        graph = desk(n20=face, n21=encoder("a detailed face"), n9=node("SaveImage", images=["20", 0]))
        assert read(graph) == NURSE

    def test_a_loaded_picture_worked_over(self) -> None:
        graph = desk(n5=node("VAEEncode", pixels=["20", 0], vae=["4", 2]), n20=node("LoadImage", image="x.png"))
        assert read(graph) == NURSE

    def test_another_sampler_that_is_not_saved(self) -> None:
        other = node("KSampler", seed=1, steps=1, positive=["21", 0], negative=["7", 0], latent_image=["5", 0])
        assert read({"0": other, "21": encoder("a dog"), **desk()}) == NURSE

    def test_two_pictures_with_different_prompts(self) -> None:
        graph = desk(
            n20=node("KSampler", seed=1, steps=1, positive=["21", 0], negative=["7", 0], latent_image=["5", 0]),
            n21=encoder("a dog"),
            n22=node("VAEDecode", samples=["20", 0], vae=["4", 2]),
            n23=node("SaveImage", images=["22", 0]),
        )
        assert read(graph) is None

    def test_pictures_laid_together(self) -> None:
        graph = desk(
            n20=node("KSampler", seed=1, steps=1, positive=["21", 0], negative=["7", 0], latent_image=["5", 0]),
            n21=encoder("a dog"),
            n22=node("LatentComposite", samples_to=["3", 0], samples_from=["20", 0], x=0, y=0),
            n8=node("VAEDecode", samples=["22", 0], vae=["4", 2]),
        )
        assert read(graph) is None

    def test_a_saved_picture_that_no_sampler_made(self) -> None:
        graph = desk(n20=node("LoadImage", image="x.png"), n9=node("SaveImage", images=["20", 0]))
        assert read(graph) is None

    @pytest.mark.parametrize(
        "service",
        [
            node("OpenAIDalle3", prompt=NURSE, seed=1, size="1024x1024"),
            node("FluxProUltraImageNode", prompt=NURSE, prompt_upsampling=False, seed=1),
            node("IdeogramV3", prompt=NURSE, aspect_ratio="1:1"),
            node("RecraftTextToImageNode", prompt=NURSE, negative_prompt=NEGATIVE),
            node("GeminiImageNode", prompt=["6", 0], model="m"),
            node("StabilityStableImageUltraNode", prompt=NURSE, style_preset="None"),
            node("OpenAIGPTImage1", prompt=NURSE, image=["30", 0], quality="low"),
        ],
    )
    def test_partners(self, service: dict[str, Any]) -> None:
        graph = {
            "1": service,
            "2": node("SaveImage", images=["1", 0]),
            "6": node("PrimitiveString", value=NURSE),
            "30": node("LoadImage", image="x.png"),
        }
        assert read(graph) == NURSE

    def test_a_graph_that_saves_nothing(self) -> None:
        graph = {key: value for key, value in desk().items() if key not in ("8", "9")}
        assert read(graph) == NURSE
        guider = {"1": node("BasicGuider", conditioning=["6", 0]), "6": encoder(NURSE), "7": encoder(NEGATIVE)}
        assert read(guider) == NURSE


class TestEditorsForm:
    def drawn(self, **changed: Any) -> dict[str, Any]:
        nodes = {
            3: {"type": "KSampler", "inputs": [{"name": "positive", "link": 1}, {"name": "negative", "link": 2},
                                               {"name": "latent_image", "link": 3}], "widgets_values": [1, "fixed", 20]},
            5: {"type": "EmptyLatentImage", "widgets_values": [512, 512, 1]},
            6: {"type": "CLIPTextEncode", "widgets_values": [NURSE]},
            7: {"type": "CLIPTextEncode", "widgets_values": [NEGATIVE]},
            8: {"type": "VAEDecode", "inputs": [{"name": "samples", "link": 4}]},
            9: {"type": "SaveImage", "inputs": [{"name": "images", "link": 5}], "widgets_values": ["x"]},
        }  # fmt: skip
        links = [[1, 6, 0, 3, 1, "CONDITIONING"], [2, 7, 0, 3, 2, "CONDITIONING"], [3, 5, 0, 3, 3, "LATENT"],
                 [4, 3, 0, 8, 0, "LATENT"], [5, 8, 0, 9, 0, "IMAGE"]]  # fmt: skip
        return {"nodes": [{"id": key, **value} for key, value in nodes.items()], "links": links} | changed

    def test_followed(self) -> None:
        assert read(self.drawn()) == NURSE

    def test_without_links_none_is_known(self) -> None:
        assert read(self.drawn(links=[])) is None

    def test_names_beside_values_of_which_a_seed_has_two(self) -> None:
        drawn = self.drawn()
        drawn["nodes"][2] = {
            "id": 6, "type": "IdeogramV3", "widgets_values": [7, "randomize", NURSE],
            "inputs": [{"name": name, "widget": {"name": name}, "link": None} for name in ("seed", "prompt")],
        }  # fmt: skip
        drawn["links"] = [[5, 6, 0, 9, 0, "IMAGE"]]
        assert read(drawn) == NURSE

    @pytest.mark.parametrize(
        "maker",
        [
            {"type": "Text Concatenate", "widgets_values": [", ", "true"]},
            {"type": "Prompt Styles Selector", "widgets_values": ["a nurse"]},
        ],
    )
    def test_values_without_names_make_no_text(self, maker: dict[str, Any]) -> None:
        drawn = self.drawn()
        linked = [{"name": "text_a", "link": 20}, {"name": "text_b", "link": 21}]
        drawn["nodes"].append({"id": 20, "inputs": linked, **maker})
        drawn["nodes"] += [{"id": at, "type": "PrimitiveString", "widgets_values": [NURSE]} for at in (21, 22)]
        drawn["nodes"][2] = {
            "id": 6,
            "type": "CLIPTextEncode",
            "inputs": [{"name": "text", "link": 6}],
            "widgets_values": [""],
        }
        drawn["links"] += [[6, 20, 0, 6, 0, "STRING"], [20, 21, 0, 20, 0, "STRING"], [21, 22, 0, 20, 1, "STRING"]]
        assert read(drawn) is None

    def test_what_the_editor_makes_of_a_text(self) -> None:
        drawn = self.drawn()
        for text, prompt in ((f"{NURSE} // a remark\n/* more\n*/", NURSE), ("a {nurse|pilot}", None)):
            drawn["nodes"][2] = {"id": 6, "type": "CLIPTextEncode", "widgets_values": [text]}
            assert read(drawn) == prompt

    def test_muted_and_bypassed(self) -> None:
        drawn = self.drawn()
        drawn["nodes"].append(
            {"id": 20, "type": "ControlNetApply", "mode": 4, "outputs": [{"type": "CONDITIONING"}],
             "inputs": [{"name": "conditioning", "link": 6}, {"name": "image", "link": 7}]}
        )  # fmt: skip
        drawn["links"] = [[1, 20, 0, 3, 1, "CONDITIONING"], [6, 6, 0, 20, 0, "CONDITIONING"], *drawn["links"][1:],
                          [7, 8, 0, 20, 1, "IMAGE"]]  # fmt: skip
        assert read(drawn) == NURSE

    def test_values_set_and_got_by_name(self) -> None:
        drawn = self.drawn()
        drawn["nodes"] += [
            {"id": 20, "type": "SetNode", "inputs": [{"name": "CONDITIONING", "link": 6}], "widgets_values": ["p"]},
            {"id": 21, "type": "GetNode", "widgets_values": ["p"]},
        ]
        drawn["links"] = [[1, 21, 0, 3, 1, "CONDITIONING"], [6, 6, 0, 20, 0, "CONDITIONING"], *drawn["links"][1:]]
        assert read(drawn) == NURSE


class TestHostile:
    def test_loops(self) -> None:
        assert read({"1": node("KSampler", positive=["1", 0])}) is None
        assert read(desk(n6=encoder(["20", 0]), n20=node("Reroute", value=["20", 0]))) is None
        assert read(desk(n5=node("VAEEncode", pixels=["8", 0]))) == NURSE
        pair = {
            "n20": node("ConditioningSetArea", conditioning=["21", 0]),
            "n21": node("ConditioningSetArea", conditioning=["20", 0]),
        }
        assert read(desk(("20", 0), **pair)) is None

    def test_depth_and_doubling(self) -> None:
        chain = {f"n{i}": node("Reroute", value=[str(i + 1), 0]) for i in range(100, 5_000)}
        assert read(desk(("100", 0), **chain)) is None
        doubled = {
            f"n{i}": node("StringConcatenate", string_a=[str(i + 1), 0], string_b=[str(i + 1), 0], delimiter="")
            for i in range(100, 190)
        }
        assert read(desk(n6=encoder(["100", 0]), **doubled, n190=node("PrimitiveString", value="a"))) is None
        wide = {
            f"n{i}": node("ConditioningCombine", conditioning_1=[str(i + 1), 0], conditioning_2=[str(i + 1), 0])
            for i in range(100, 200)
        }
        assert read(desk(("100", 0), **wide, n200=encoder(NURSE))) == NURSE

    @pytest.mark.parametrize(
        "text", ["[" * 100_000, "{", "null", "[]", '{"1": {"class_type": 3}}', '{"1": {"class_type": "KSampler"}}']
    )
    def test_no_graphs(self, text: str) -> None:
        assert prompt_in_graph(text) is None


# --- the editor's form with subgraphs -----------------------------------------------------------------------------------


def drawn_with_subgraph(instance: dict[str, Any], encoder: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An editor's graph whose encoder and sampler lie in a subgraph, and whose picture is saved outside."""

    def link(id_: int, origin: int, slot: int, target: int, to: int, kind: str) -> dict[str, Any]:
        return {
            "id": id_,
            "origin_id": origin,
            "origin_slot": slot,
            "target_id": target,
            "target_slot": to,
            "type": kind,
        }

    inner = {
        "id": "0f0e",
        "inputs": [{"name": "words", "type": "STRING", "linkIds": [1]}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "linkIds": [5]}],
        "nodes": [
            {"id": 1, "type": "CLIPTextEncode", **encoder},
            {"id": 2, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["bad hands"]},
            {"id": 3, "type": "EmptyLatentImage", "inputs": [], "widgets_values": [512, 512, 1]},
            {"id": 4, "type": "KSampler", "inputs": [
                {"name": "positive", "link": 2}, {"name": "negative", "link": 3}, {"name": "latent_image", "link": 4},
            ], "widgets_values": [7, "fixed", 20, 8.0, "euler", "normal", 1.0]},
            {"id": 6, "type": "VAEDecode", "inputs": [{"name": "samples", "link": 6}]},
        ],
        "links": [
            link(1, -10, 0, 1, 1, "STRING"), link(2, 1, 0, 4, 1, "CONDITIONING"), link(3, 2, 0, 4, 2, "CONDITIONING"),
            link(4, 3, 0, 4, 3, "LATENT"), link(5, 6, 0, -20, 0, "IMAGE"), link(6, 4, 0, 6, 0, "LATENT"),
        ],
    }  # fmt: skip
    nodes = [
        {"id": 10, "type": "0f0e", **instance},
        {"id": 11, "type": "SaveImage", "inputs": [{"name": "images", "link": 20}]},
        *more.get("nodes", []),
    ]
    links = [[20, 10, 0, 11, 0, "IMAGE"], *more.get("links", [])]
    return {"nodes": nodes, "links": links, "definitions": {"subgraphs": [inner, *more.get("subgraphs", [])]}}


WORDED = {
    "inputs": [{"name": "text", "widget": {"name": "text"}, "link": 1}],
    "widgets_values": ["what was there before"],
}
PLAIN = {"inputs": [], "widgets_values": ["a photo of a nurse"]}


def test_a_subgraph_that_holds_its_words() -> None:
    assert read(drawn_with_subgraph({"inputs": []}, PLAIN)) == "a photo of a nurse"


def test_a_subgraph_whose_words_stand_on_its_node_or_come_from_another() -> None:
    slot = {"name": "words", "type": "STRING", "widget": {"name": "words"}}
    own = {"inputs": [slot | {"link": None}], "widgets_values": ["a photo of a pilot"]}
    assert read(drawn_with_subgraph(own, WORDED)) == "a photo of a pilot"
    linked = {"inputs": [slot | {"link": 21}], "widgets_values": ["a photo of a pilot"]}
    primitive = {"id": 12, "type": "PrimitiveStringMultiline", "inputs": [], "widgets_values": ["a photo of a chef"]}
    other = {"nodes": [primitive], "links": [[21, 12, 0, 10, 0, "STRING"]]}
    assert read(drawn_with_subgraph(linked, WORDED, **other)) == "a photo of a chef"


def test_widgets_of_a_subgraph_that_are_set_on_its_node() -> None:
    instance = {"inputs": [], "properties": {"proxyWidgets": [["1", "text"]]}, "widgets_values": ["a photo of a judge"]}
    assert read(drawn_with_subgraph(instance, PLAIN)) == "a photo of a judge"


def test_a_subgraph_in_a_subgraph_and_one_without_a_definition() -> None:
    inside = drawn_with_subgraph({"inputs": []}, PLAIN)
    outer = {
        "id": "0a0b", "inputs": [], "outputs": [{"name": "IMAGE"}], "nodes": [{"id": 1, "type": "0f0e", "inputs": []}],
        "links": [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "IMAGE"}],
    }  # fmt: skip
    inside["nodes"][0]["type"] = "0a0b"
    inside["definitions"]["subgraphs"].append(outer)
    assert read(inside) == "a photo of a nurse"
    del inside["definitions"]
    assert read(inside) is None


def test_subgraphs_that_hold_themselves_end() -> None:
    own = drawn_with_subgraph({"inputs": []}, PLAIN)
    (inner,) = own["definitions"]["subgraphs"]
    inner["nodes"] += [{"id": 100 + n, "type": "0f0e", "inputs": []} for n in range(4)]
    assert read(own) == "a photo of a nurse"


def test_graphs_of_the_editor_with_anything_anywhere() -> None:
    """Whatever stands in place of a value, there is a prompt or none, and no error."""
    rng = random.Random(0)
    slot = {"name": "words", "type": "STRING", "widget": {"name": "words"}, "link": None}
    instance = {
        "inputs": [slot],
        "properties": {"proxyWidgets": [["1", "text"]]},
        "widgets_values": ["a photo of a pilot"],
    }
    hostile: list[Any] = [None, [], {}, [[]], {"a": [1]}, -1, 10**30, "x", True, 0.5, ["a", 0], [None], "\ud800"]

    def places(value: Any) -> list[tuple[Any, Any]]:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]

    for _ in range(400):
        graph = json.loads(json.dumps(drawn_with_subgraph(instance, WORDED)))
        for _ in range(rng.choice((1, 1, 2, 5))):
            holder, key = rng.choice(places(graph))
            holder[key] = rng.choice(hostile)
            if not isinstance(graph.get("nodes"), list):
                break
        found = read(graph)
        assert found is None or isinstance(found, str)

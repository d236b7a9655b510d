"""Runs video2dataset in an environment of its own, which has nothing of ours: CSV OUT SAMPLES_PER_SHARD PROCESSES."""

import sys


def main() -> None:
    """Copy the listed files into tars, nothing else."""
    from video2dataset import video2dataset  # type: ignore[import-not-found]

    listed, out, in_a_shard, processes = sys.argv[1:]
    youtube = {"download_size": 360, "download_audio_rate": 44100, "yt_metadata_args": None}
    video2dataset(
        listed,
        output_folder=out,
        output_format="webdataset",
        input_format="csv",
        url_col="url",
        encode_formats={"video": "mp4"},
        config={
            "subsampling": {},
            "reading": {"timeout": 60, "sampler": None, "yt_args": youtube},
            "storage": {
                "number_sample_per_shard": int(in_a_shard),
                "oom_shard_count": 5,
                "captions_are_subtitles": False,
            },
            "distribution": {
                "processes_count": int(processes),
                "thread_count": 4,
                "subjob_size": 1_000_000,
                "distributor": "multiprocessing",
            },
        },
    )


if __name__ == "__main__":
    main()
